"""The recipe of the authors' released code on FLIR (RoadScene): their network, losses and schedule.

Cost: 21,200 steps at batch 16. On 2 cores of an AMD EPYC a step takes about 1.8 s (docs/performance.md), the whole run
half a day. Not measured on a GPU.

Expect: after 300 steps at batch 8 (--config.steps=300 --config.batch_size=8) on flir/val, 40 pairs, standard protocol:
EN 7.02, SF 9.86, SD 35.8, CC 0.645, SCD 1.46, VIFp 0.515, Qabf 0.387, SSIM 1.391.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import flir


def get_config() -> ConfigDict:
    return flir.get_config("released")
