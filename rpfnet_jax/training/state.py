"""What training changes from step to step, and how it starts."""

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
        batch_stats: the norm layers' running statistics, the same subtrees; empty for a network without norms.
        average: moving average of the fusion network's parameters, which is then what is validated and saved as
            weights; empty where none is kept.
        opt_state: state of the optimizer of `make_optimizer`.
    """

    # Not a jaxtyping shape: tree.map puts NumPy arrays, shapes and shardings in place of the leaves.
    step: Any
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    # Nor a dict: Orbax takes an empty one for a leaf.
    average: Any
    opt_state: Any

    def variables(self, network: str = "fusion") -> dict[str, Any]:
        """Linen variables of one network, for `apply`; the fusion network's average where there is one."""
        params = self.average if network == "fusion" and self.average else self.params[network]
        return {"params": params, "batch_stats": self.batch_stats[network]}


def make_networks(config: ModelConfig, auxiliary: bool = True) -> Networks:
    """The fusion network and, if wanted, its auxiliary decoder, of the same width.

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
    """A fresh state, determined by `seed`; torch's initialisation for every layer with a norm, He's for the others.

    Args:
        networks: what is trained.
        optimizer: from `make_optimizer`.
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
        # A copy: the step donates the state, and no buffer can be given away twice.
        average=jax.tree.map(jnp.copy, params["fusion"]) if averaged else {},
        opt_state=optimizer.init(params),
    )
