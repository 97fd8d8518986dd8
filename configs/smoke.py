"""A small network on the embedded scenes."""

from rpfnet_jax.recipes.smoke import get_config

__all__ = ["get_config"]
