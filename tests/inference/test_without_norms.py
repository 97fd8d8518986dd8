"""Fusing with a network that has no norms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.inference import Fuser
from rpfnet_jax.model import ModelConfig, RPFNet, init_variables
from rpfnet_jax.training import calibrate
from rpfnet_jax.weights import Weights

CONFIG = ModelConfig(channels=8, stages=2, norm="none")


@pytest.fixture(scope="module")
def variables():
    image = jnp.zeros((1, 16, 16, 1))
    return init_variables(RPFNet(CONFIG), jax.random.key(0), image, image)


def test_adaptation_and_calibration_are_refused_where_there_is_nothing_to_adapt(variables):
    net = Fuser(Weights(CONFIG, variables))
    with pytest.raises(ValueError, match="adapt has no effect on these weights"):
        net.using(norm="adaptive", adapt=0.5)
    with pytest.raises(ValueError, match="no statistics to calibrate"):
        calibrate(RPFNet(CONFIG), variables, [])


def test_tiles_are_exposed_like_the_whole_picture(variables):
    rng = np.random.default_rng(0)
    ir, vis = rng.uniform(0.3, 1, (2, 48, 64)).astype(np.float32)
    # One half is dark: by itself it would be exposed otherwise.
    ir[:, :32] *= 0.2
    params = variables["params"]
    silent = {**params, "head": {**params["head"], "out": jax.tree.map(jnp.zeros_like, params["head"]["out"])}}
    net = Fuser(Weights(dataclasses.replace(CONFIG, base="exposed_sum"), {"params": silent}))
    whole = net.fuse(ir, vis, dtype="float32")
    np.testing.assert_allclose(net.in_tiles(32, 8).fuse(ir, vis, dtype="float32"), whole, atol=1e-5)
