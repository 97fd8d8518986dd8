"""Medical fusion (paper, Section 4.3.3): MRI with PET and MRI with SPECT, trained together.

The functional image (PET, SPECT) takes the role of VIS: its luminance is fused with the MRI, which takes the role of
IR, and its chroma comes back in the result. --config.data.functional=ir swaps the roles; the colour stays that of the
functional image.
"""

from typing import Literal

from ml_collections import ConfigDict

from rpfnet_jax.recipes import base, flir_plus


def get_config(variant: Literal["paper", "released", "plus"] = "paper") -> ConfigDict:
    """Returns the paper's recipe on the medical sets (also in the `released` reading), or that of `flir_plus` (`plus`).

    Raises:
        ValueError: unknown variant.
    """
    if variant == "plus":
        config = flir_plus.get_config()
        config.name = "medical_plus"
        config.steps = 400
        # Most of a medical image is black already.
        config.darkening.vis = 0.0
        config.darkening.ir = 0.0
    else:
        config = base.get_config(variant)
        config.name = "medical"
    config.data.root = "data/medical"
    config.data.sets = ("mri-pet", "mri-spect")
    config.data.validation = "test"
    config.data.source = (
        "The paper trains on 217 pairs of the Harvard Whole Brain Atlas (AANLIB) and does not list them; slices in "
        "pairs: github.com/xianming-gu/Havard-Medical-Image-Fusion-Datasets. One folder per set: mri-pet/train/mri "
        "with mri-pet/train/pet, mri-spect/train/mri with mri-spect/train/spect; the same for test."
    )
    # The test pairs are measured once, at the end, and select nothing.
    config.validation.every_epochs = 0
    config.validation.pairs = 2
    return config
