"""Medical fusion (paper, Section 4.3.3): MRI with PET and MRI with SPECT, trained together in the paper's recipe.

Cost: 21,200 steps at batch 16, as configs/flir.py; the time of a step does not depend on what the patches show.

Expect: measured per set by studies/medical.py, beside the rows of the paper's Table 6; there, after 100 epochs:
EN 4.36, SF 9.99, SD 9.32, CC 0.81, SCD 1.59, VIFF 0.86. Not trained to the end here. There is no validation set: the
test pairs are measured once, at the end, and select nothing.
"""

from rpfnet_jax.recipes.medical import get_config

__all__ = ["get_config"]
