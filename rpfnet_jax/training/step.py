"""The jitted train step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, UInt8

from rpfnet_jax.losses import LossConfig, objective
from rpfnet_jax.training.devices import AXIS
from rpfnet_jax.training.state import Networks, TrainState

Terms = dict[str, Float[Array, ""]]
TrainStep = Callable[[TrainState, Any, Any], tuple[TrainState, Terms]]


def to_unit(image: UInt8[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """8-bit grey levels to float32 in [0, 1], on the device: a quarter of the bytes to transfer."""
    return image.astype(jnp.float32) / 255.0


def make_train_step(
    networks: Networks, losses: LossConfig, optimizer: optax.GradientTransformation, mesh: Mesh | None = None
) -> TrainStep:
    """Compiles one update of the networks; `losses.auxiliary` says whether there are two.

    Args:
        networks: what is trained.
        losses: the objective.
        optimizer: from `make_optimizer`.
        mesh: of `make_mesh`; each of its devices computes its share of a batch, and the update is that of the whole
            batch. A batch that can't be divided among them (the last, smaller one of an epoch) is computed whole by
            each device: they all need its result, and none has anything else to do.

    Returns:
        A jitted function (state, ir, vis_y) -> (state, terms). `ir` and `vis_y` are uint8 (B, H, W, 1); the given state
        is donated and must not be used again; with a mesh it must be on all its devices. `terms` is a flat dict of
        float32 scalars: those of `rpfnet_jax.losses.objective` and `grad_norm`, the global norm of all gradients.
    """
    alone = _make_update(networks, losses, optimizer)
    if mesh is None:
        return jax.jit(alone, donate_argnums=0)
    spread = Networks(*(network and network.clone(axis=AXIS) for network in networks))
    together = jax.shard_map(
        _make_update(spread, dataclasses.replace(losses, axis=AXIS), optimizer),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
    )

    def train_step(state: TrainState, ir: Array, vis_y: Array) -> tuple[TrainState, Terms]:
        return (alone if len(ir) % mesh.size else together)(state, ir, vis_y)

    return jax.jit(train_step, donate_argnums=0)


def _make_update(networks: Networks, losses: LossConfig, optimizer: optax.GradientTransformation) -> TrainStep:
    """The update itself, of all of the batch or, where `losses.axis` is set, of this device's share of it."""

    def loss(params: dict, batch_stats: dict, ir: Array, vis_y: Array) -> tuple[Array, tuple[dict, Terms]]:
        if losses.axis is not None:
            # Makes the gradient of `params`, which every device has, the sum of what the devices find.
            params = jax.lax.pcast(params, losses.axis, to="varying")

        def apply(name: str, *inputs: Array, **options: bool) -> tuple:
            variables = {"params": params[name], "batch_stats": batch_stats[name]}
            network = getattr(networks, name)
            return network.apply(variables, *inputs, norm="batch", mutable=["batch_stats"], **options)

        (fused, stages), update = apply("fusion", ir, vis_y, features=True)
        updated, aux_map = {"fusion": update["batch_stats"]}, None
        if networks.auxiliary is not None:
            aux_map, update = apply("auxiliary", stages[-1].residual)
            updated["auxiliary"] = update["batch_stats"]
        total, terms = objective(fused, aux_map, ir, vis_y, losses)
        return total, (updated, terms)

    def update(state: TrainState, ir: Array, vis_y: Array) -> tuple[TrainState, Terms]:
        gradient = jax.grad(loss, has_aux=True)
        grads, (batch_stats, terms) = gradient(state.params, state.batch_stats, to_unit(ir), to_unit(vis_y))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        state = state.replace(  # type: ignore[attr-defined]
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, {**terms, "grad_norm": optax.tree.norm(grads)}

    return update
