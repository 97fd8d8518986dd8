"""Our side of the inference comparison."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp

from rpfnet_jax import Fuser, ModelConfig, RPFNet
from rpfnet_jax.model import init_variables
from rpfnet_jax.runtime import keep_freed_memory
from rpfnet_jax.weights import Weights, load_weights


def make_fuser(weights: Path | None) -> Fuser:
    """The given weights, or untrained ones of the released reading, in a process that keeps its memory."""
    keep_freed_memory()
    if weights is not None:
        return Fuser(load_weights(weights))
    config = ModelConfig.preset("released")
    image = jnp.zeros((1, 16, 16, 1))
    return Fuser(Weights(config, init_variables(RPFNet(config), jax.random.key(0), image, image)))
