"""The small sibling of `flir_plus`: half the channels, two stages instead of three, otherwise the same recipe.

Cost: 9 minutes on 2 cores of an AMD EPYC that did other work as well.

Expect: on flir/val, 40 pairs, standard protocol: EN 7.42, SF 13.3, SD 50.0, CC 0.641, SCD 1.91, VIFp 0.615, Qabf 0.527,
SSIM 1.384.
"""

from ml_collections import ConfigDict

from configs import flir_plus


def get_config() -> ConfigDict:
    config = flir_plus.get_config()
    config.name = "flir_small"
    config.model.channels = 16
    config.model.stages = 2
    return config
