"""The paper's recipe in the paper's reading, on FLIR (RoadScene): 180 training and 40 validation pairs."""

from rpfnet_jax.recipes.flir import get_config

__all__ = ["get_config"]
