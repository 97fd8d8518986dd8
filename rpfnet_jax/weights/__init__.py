"""Reading and writing trained weights."""

from rpfnet_jax.weights.store import FusionDefaults, Weights, WeightsError, load_weights, save_weights

__all__ = ["FusionDefaults", "Weights", "WeightsError", "load_weights", "save_weights"]
