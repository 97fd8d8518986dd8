"""MRI with PET and MRI with SPECT by the recipe of configs/flir_plus.py instead of the paper's."""

from rpfnet_jax.recipes.medical_plus import get_config

__all__ = ["get_config"]
