"""Medical fusion, Section 4.3.3: MRI with PET and MRI with SPECT, in the paper's recipe, trained together."""

from rpfnet_jax.recipes.medical import get_config

__all__ = ["get_config"]
