"""What the authors' released code trains, on FLIR (RoadScene): their network, losses and schedule.

Cost: as configs/flir.py; a step at batch 8 takes about 4 s on 2 cores of an AMD EPYC.

Expect: after 300 steps at batch 8 (--config.steps=300 --config.batch_size=8) on flir/val, 40 pairs, standard protocol:
EN 7.02, SF 9.86, SD 35.8, CC 0.645, SCD 1.46, VIFp 0.515, Qabf 0.387, SSIM 1.391.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import flir


def get_config() -> ConfigDict:
    config = flir.get_config()
    config.name = "flir_released"
    config.model.reading = "released"
    config.schedule.auxiliary_halvings = 0
    return config
