"""Weights with random values, without compiling anything."""

from collections.abc import Callable

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from rpfnet_jax.model import ModelConfig, variable_shapes


@pytest.fixture(scope="session")
def random_variables() -> Callable[[ModelConfig], dict]:
    """Makes variables of a network; all of them are positive, so that they suit as variances."""

    def make(config: ModelConfig) -> dict:
        rng = np.random.default_rng(0)
        shapes = variable_shapes(config)
        return unflatten_dict({p: rng.uniform(0.1, 0.2, shape).astype(np.float32) for p, shape in shapes.items()}, "/")

    return make
