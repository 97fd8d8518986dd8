"""The small sibling of `flir_plus`: half the channels, one stage instead of three, otherwise the same recipe.

Cost: 5.5 minutes on 2 cores of an AMD EPYC, part of them beside other work.

Expect: on flir/val, 40 pairs, standard protocol: EN 7.34, SF 13.8, SD 47.1, CC 0.644, SCD 1.87, VIFp 0.594, Qabf 0.524,
SSIM 1.405.
"""

from ml_collections import ConfigDict

from configs import flir_plus


def get_config() -> ConfigDict:
    config = flir_plus.get_config()
    config.name = "flir_small"
    config.model.channels = 16
    config.model.stages = 1
    return config
