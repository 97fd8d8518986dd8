"""Trained weights: our own safetensors files, and the authors' files read without executing them."""

from rpfnet_jax.weights.loading import load_weights, shipped_names
from rpfnet_jax.weights.store import (
    FusionDefaults,
    RunOutput,
    Weights,
    WeightsError,
    check_weights_name,
    save_weights,
)
from rpfnet_jax.weights.torch_names import to_torch

__all__ = [
    "FusionDefaults",
    "RunOutput",
    "Weights",
    "WeightsError",
    "check_weights_name",
    "load_weights",
    "save_weights",
    "shipped_names",
    "to_torch",
]
