"""The recipe of `flir_plus` on the medical pairs: MRI with PET and with SPECT, one network for both.

Not darkened: the pictures are of what a scanner measured, on a background that is black already.
"""

from ml_collections import ConfigDict

from configs import medical
from configs.flir_plus import improve


def get_config() -> ConfigDict:
    config = improve(medical.get_config())
    config.name = "medical_plus"
    config.steps = 300
    config.darkening.vis = 0.0
    config.darkening.ir = 0.0
    return config
