"""The small sibling of `flir_plus`: half the channels, one stage instead of three, otherwise the same recipe.

Cost: 3 minutes on 2 cores of an AMD EPYC.

Expect: on flir/val, 40 pairs, standard protocol: EN 7.37, SF 13.2, SD 46.8, CC 0.649, SCD 1.82, VIFp 0.589, Qabf 0.503,
SSIM 1.411.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import flir_plus


def get_config() -> ConfigDict:
    config = flir_plus.get_config()
    config.name = "flir_small"
    config.model.channels = 16
    config.model.stages = 1
    return config
