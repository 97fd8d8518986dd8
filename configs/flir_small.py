"""The small sibling of `flir_plus`: half the channels, one stage instead of three, otherwise the same recipe."""

from rpfnet_jax.recipes.flir_small import get_config

__all__ = ["get_config"]
