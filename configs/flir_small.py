"""The recipe of configs/flir_plus.py with half the channels and one stage instead of three.

Cost: 3 minutes on 2 cores of an AMD EPYC.

Expect: on flir/val, 40 pairs, standard protocol: EN 7.37, SF 13.2, SD 46.8, CC 0.649, SCD 1.82, VIFp 0.589, Qabf 0.503,
SSIM 1.411.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import flir_plus


def get_config() -> ConfigDict:
    return flir_plus.get_config("small")
