"""A tiny network with random variables."""

from collections.abc import Callable

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from rpfnet_jax.inference import Fuser
from rpfnet_jax.model import ModelConfig, variable_shapes
from rpfnet_jax.weights import FusionDefaults, Weights


def _values(path: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Kernels as wide as an initial network's; norms and statistics that differ between the channels."""
    if path.endswith("kernel"):
        bound = np.prod(shape[:-1]) ** -0.5
        return rng.uniform(-bound, bound, shape).astype(np.float32)
    low, high = (0.5, 1.5) if path.endswith(("scale", "var")) else (-0.1, 0.1)
    return rng.uniform(low, high, shape).astype(np.float32)


@pytest.fixture(scope="session")
def make_weights() -> Callable[..., Weights]:
    """Makes weights, without compiling anything; the arguments are a `ModelConfig` and those of `FusionDefaults`."""

    def make(config: ModelConfig = ModelConfig(channels=4, stages=1), **defaults) -> Weights:
        rng = np.random.default_rng(0)
        flat = {path: _values(path, shape, rng) for path, shape in variable_shapes(config).items()}
        return Weights(config, unflatten_dict(flat, sep="/"), FusionDefaults(**defaults))

    return make


@pytest.fixture(scope="module")
def net(make_weights) -> Fuser:
    return Fuser(make_weights())
