"""A tiny network with random variables."""

from collections.abc import Callable

import numpy as np
import pytest

from rpfnet_jax.inference import Fuser
from rpfnet_jax.model import ModelConfig, RPFNet
from rpfnet_jax.weights import FusionDefaults, Weights
from tests.networks import random_variables


@pytest.fixture(scope="session")
def make_weights() -> Callable[..., Weights]:
    """Makes weights, without compiling anything; the arguments are a `ModelConfig` and those of `FusionDefaults`."""

    def make(config: ModelConfig = ModelConfig(channels=4, stages=1), **defaults) -> Weights:
        image = np.zeros((1, 16, 16, 1), np.float32)
        return Weights(config, random_variables(RPFNet(config), image, image), FusionDefaults(**defaults))

    return make


@pytest.fixture(scope="module")
def net(make_weights) -> Fuser:
    return Fuser(make_weights())
