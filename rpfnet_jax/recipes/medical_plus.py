"""MRI with PET and MRI with SPECT by the recipe of configs/flir_plus.py instead of the paper's.

Without norms the black around a head stays black; configs/medical.py gives a grey that norm statistics make of it.

Cost: 7 minutes on 2 cores of an AMD EPYC.

Expect: docs/weights.md.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import flir_plus, medical


def get_config() -> ConfigDict:
    config = flir_plus.get_config()
    paper = medical.get_config()
    config.name = "medical_plus"
    config.data = paper.data
    config.data.augment = True
    config.validation = paper.validation
    config.steps = 400
    # Most of a medical picture is black; there is nothing to be made dark.
    config.darkening.vis = 0.0
    config.darkening.ir = 0.0
    return config
