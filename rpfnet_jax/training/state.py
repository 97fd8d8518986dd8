"""The networks that are trained, and the state that training changes from step to step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from rpfnet_jax.model import MIN_SIDE, AuxiliaryDecoder, ModelConfig, RPFNet, init_variables


class Networks(NamedTuple):
    """The networks that are trained together; without an auxiliary loss there is no auxiliary decoder."""

    fusion: RPFNet
    auxiliary: AuxiliaryDecoder | None


@struct.dataclass
class TrainState:
    """Parameters, running statistics and optimizer state; a pytree, saved as a whole.

    Attributes:
        step: number of updates made, int32 scalar.
        params: `{"fusion": ..., "auxiliary": ...}`; without an auxiliary decoder only the first.
        batch_stats: running statistics of the norm layers, the same subtrees; empty for a network without norms.
        average: moving average of the fusion network's parameters, which is then validated and saved as the weights;
            empty where none is kept.
        opt_state: state of the optimizer.
    """

    # The fields have no jaxtyping shapes: `jax.tree.map` puts NumPy arrays, shapes and shardings in the leaves' place.
    step: Any
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    # Not annotated as a dict either: Orbax takes an empty one for a leaf.
    average: Any
    opt_state: Any

    def variables(self, network: str = "fusion") -> dict[str, Any]:
        """Returns a network's Linen variables for `apply`; for the fusion network the average where there is one."""
        params = self.average if network == "fusion" and self.average else self.params[network]
        return {"params": params, "batch_stats": self.batch_stats[network]}


def make_networks(config: ModelConfig, auxiliary: bool = True) -> Networks:
    """Makes the fusion network and, where the objective needs it, the auxiliary decoder of the same width.

    Raises:
        ValueError: a decoder is wanted for a network without the residual features that it decodes.
    """
    if auxiliary and not config.residual_prior:
        raise ValueError(
            "loss.auxiliary must be False where model.residual_prior is: the decoder reads the residual features"
        )
    return Networks(RPFNet(config), AuxiliaryDecoder(config) if auxiliary else None)


def create_state(
    networks: Networks, optimizer: optax.GradientTransformation, seed: int, averaged: bool = False
) -> TrainState:
    """Creates the state before the first step, determined by `seed`.

    Layers with a norm are initialised as in torch, the others as by He.

    Args:
        networks: what is trained.
        optimizer: see `make_optimizer`.
        seed: draws the parameters.
        averaged: whether an average of the fusion network's parameters is kept.
    """
    fusion_key, auxiliary_key = jax.random.split(jax.random.key(seed))
    image = jnp.zeros((1, MIN_SIDE, MIN_SIDE, 1))
    features = jnp.zeros((1, MIN_SIDE, MIN_SIDE, networks.fusion.config.channels))
    variables = {"fusion": init_variables(networks.fusion, fusion_key, image, image)}
    if networks.auxiliary is not None:
        variables["auxiliary"] = init_variables(networks.auxiliary, auxiliary_key, features)
    params = {name: tree["params"] for name, tree in variables.items()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={name: tree.get("batch_stats", {}) for name, tree in variables.items()},
        # A copy, because the step donates the state and no buffer can be donated twice.
        average=jax.tree.map(jnp.copy, params["fusion"]) if averaged else {},
        opt_state=optimizer.init(params),
    )
