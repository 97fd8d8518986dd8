"""A tiny network."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from rpfnet_jax.inference import Fuser
from rpfnet_jax.model import ModelConfig, RPFNet, init_variables
from rpfnet_jax.weights import FusionDefaults, Weights


@pytest.fixture(scope="session")
def make_weights() -> Callable[..., Weights]:
    """Makes weights of a tiny network; the arguments are those of `FusionDefaults`."""
    config = ModelConfig(channels=4, stages=2)
    image = jnp.zeros((1, 16, 16, 1))
    variables = init_variables(RPFNet(config), jax.random.key(0), image, image)
    return lambda **defaults: Weights(config, variables, FusionDefaults(**defaults))


@pytest.fixture(scope="module")
def net(make_weights) -> Fuser:
    return Fuser(make_weights())
