"""Networks and train states with random variables, made without compiling: XLA takes seconds to compile an `init`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from rpfnet_jax.model import ModelConfig, RPFNet
from rpfnet_jax.training import Networks, TrainState


def fill(shapes: Any, seed: int = 0) -> Any:
    """Fills a tree of shapes with values by their names, none of them one that a norm would leave without effect.

    Kernels are as wide as an initial network's; norms and statistics differ between the channels and the stages.
    """
    rng = np.random.default_rng(seed)

    def values(path, leaf):
        name, bound = path[-1].key, 0.1
        if name == "kernel":
            bound = np.prod(leaf.shape[:-1]) ** -0.5
        middle = 1.0 if name in ("scale", "var") else 0.0
        return rng.uniform(middle - bound, middle + bound, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(values, shapes)


def random_variables(module: nn.Module, *inputs: Any, seed: int = 0) -> dict:
    """Makes the variables of a module for inputs of these shapes, as arrays of the device."""
    return jax.device_put(fill(jax.eval_shape(module.init, jax.random.key(0), *inputs), seed))


def network_variables(config: ModelConfig, seed: int = 0) -> dict:
    """Makes the variables of the network that a configuration describes."""
    image = np.zeros((1, 16, 16, 1), np.float32)
    return random_variables(RPFNet(config), image, image, seed=seed)


def random_state(networks: Networks, optimizer: optax.GradientTransformation, averaged: bool = False) -> TrainState:
    """Makes a state as `create_state` does, of other values."""
    variables = {"fusion": network_variables(networks.fusion.config)}
    if networks.auxiliary is not None:
        features = jnp.zeros((1, 16, 16, networks.fusion.config.channels))
        variables["auxiliary"] = random_variables(networks.auxiliary, features)
    params, statistics = (
        {name: tree.get(kind, {}) for name, tree in variables.items()} for kind in ("params", "batch_stats")
    )
    average = params["fusion"] if averaged else {}
    state = TrainState(np.int32(0), params, statistics, average, optimizer.init(params))
    # Each leaf gets a buffer of its own, because a step donates its state.
    return jax.tree.map(jnp.array, state)
