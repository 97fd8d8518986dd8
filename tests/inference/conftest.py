"""A tiny network with random variables."""

from collections.abc import Callable

import pytest

from rpfnet_jax.inference import Fuser
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights import FusionDefaults, Weights
from tests.networks import network_variables


@pytest.fixture(scope="session")
def make_weights() -> Callable[..., Weights]:
    """Makes weights, without compiling anything; the arguments are a `ModelConfig` and those of `FusionDefaults`."""

    def make(config: ModelConfig = ModelConfig(channels=4, stages=1), **defaults) -> Weights:
        return Weights(config, network_variables(config), FusionDefaults(**defaults))

    return make


@pytest.fixture(scope="module")
def net(make_weights) -> Fuser:
    return Fuser(make_weights())
