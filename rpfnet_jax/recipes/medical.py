"""Medical fusion, Section 4.3.3: MRI with PET and MRI with SPECT, in the paper's recipe, trained together.

The functional picture (PET, SPECT) plays VIS: its luminance is fused with the MRI, which plays IR, and its chroma comes
back in the result. The other way round: --config.data.functional=ir; the colour stays that of the functional picture.

Cost: as configs/flir.py, 21,200 steps at batch 16; a step does not depend on what the patches show.

Expect: measured per set by studies/medical.py, beside the rows of the paper's Table 6; there, after 100 epochs:
EN 4.36, SF 9.99, SD 9.32, CC 0.81, SCD 1.59, VIFF 0.86. Not trained to the end here. There is no validation set: the
test pairs are measured once, at the end, and select nothing.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "medical"
    config.data.root = "data/medical"
    config.data.sets = ("mri-pet", "mri-spect")
    config.data.validation = "test"
    config.data.functional = "vis"
    config.data.source = (
        "The paper trains on 217 pairs of the Harvard Whole Brain Atlas (AANLIB) and names none of them; slices in "
        "pairs: github.com/xianming-gu/Havard-Medical-Image-Fusion-Datasets. Per set a folder: mri-pet/train/mri with "
        "mri-pet/train/pet, mri-spect/train/mri with mri-spect/train/spect; the same for test."
    )
    config.validation.every_epochs = 0
    config.validation.pairs = 2
    return config
