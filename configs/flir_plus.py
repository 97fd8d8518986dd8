"""Better pictures than the paper's recipe, from the same training pairs: what `rpfnet_jax.load()` gives."""

from rpfnet_jax.recipes.flir_plus import get_config

__all__ = ["get_config"]
