"""Reading and writing trained weights: our own safetensors, and the authors' files without executing them."""

from rpfnet_jax.weights.errors import WeightsError
from rpfnet_jax.weights.loading import load_weights
from rpfnet_jax.weights.outcome import Outcome
from rpfnet_jax.weights.run_directory import digest_variables
from rpfnet_jax.weights.shipped import shipped_names
from rpfnet_jax.weights.store import FusionDefaults, Weights, check_weights_name, save_weights
from rpfnet_jax.weights.torch_names import to_torch

__all__ = [
    "FusionDefaults",
    "Outcome",
    "Weights",
    "WeightsError",
    "check_weights_name",
    "digest_variables",
    "load_weights",
    "save_weights",
    "shipped_names",
    "to_torch",
]
