"""MRI with PET and MRI with SPECT in the recipe of configs/flir_plus.py instead of the paper's.

Without norms the black around a head stays black; in configs/medical.py the statistics of norms turn it grey.

Cost: 7 minutes on 2 cores of an AMD EPYC.

Expect: docs/weights.md.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import medical


def get_config() -> ConfigDict:
    return medical.get_config("plus")
