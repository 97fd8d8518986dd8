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
from rpfnet_jax.training.darkening import DarkeningConfig, darken
from rpfnet_jax.training.devices import AXIS
from rpfnet_jax.training.state import Networks, TrainState
from rpfnet_jax.training.step_config import StepConfig

Terms = dict[str, Float[Array, ""]]
TrainStep = Callable[[TrainState, Any, Any], tuple[TrainState, Terms]]


def to_unit(image: UInt8[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """8-bit grey levels to float32 in [0, 1], on the device: a quarter of the bytes to transfer."""
    return image.astype(jnp.float32) / 255.0


def make_train_step(
    networks: Networks,
    losses: LossConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    config: StepConfig = StepConfig(),
) -> TrainStep:
    """Compiles one update of the networks; `losses.auxiliary` says whether there are two.

    Args:
        networks: what is trained.
        losses: the objective.
        optimizer: from `make_optimizer`.
        mesh: of `make_mesh`; each of its devices computes its share of a batch, and the update is that of the whole
            batch. A batch that can't be divided among them (the last, smaller one of an epoch) is computed whole by
            each device: they all need its result, and none has anything else to do.
        config: what else a step does.

    Returns:
        A jitted function (state, ir, vis_y) -> (state, terms). `ir` and `vis_y` are uint8 (B, H, W, 1); the given state
        is donated and must not be used again; with a mesh it must be on all its devices. `terms` is a flat dict of
        float32 scalars: those of `rpfnet_jax.losses.objective` and `grad_norm`, the global norm of all gradients,
        and `skipped`, 1 or 0.
    """
    alone = _make_update(networks, losses, optimizer, config)
    if mesh is None:
        return jax.jit(alone, donate_argnums=0)
    fusion, auxiliary = networks
    spread = Networks(fusion.clone(axis=AXIS), auxiliary and auxiliary.clone(axis=AXIS))
    together = jax.shard_map(
        _make_update(spread, dataclasses.replace(losses, axis=AXIS), optimizer, config),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
    )

    def train_step(state: TrainState, ir: Array, vis_y: Array) -> tuple[TrainState, Terms]:
        return (alone if len(ir) % mesh.size else together)(state, ir, vis_y)

    return jax.jit(train_step, donate_argnums=0)


def _make_update(
    networks: Networks, losses: LossConfig, optimizer: optax.GradientTransformation, config: StepConfig
) -> TrainStep:
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
        updated, aux_map = {"fusion": update.get("batch_stats", {})}, None
        if networks.auxiliary is not None:
            aux_map, update = apply("auxiliary", stages[-1].residual)
            updated["auxiliary"] = update.get("batch_stats", {})
        total, terms = objective(fused, aux_map, ir, vis_y, losses)
        return total, (updated, terms)

    def prepare(step: Array, ir: Array, vis_y: Array) -> tuple[Array, Array]:
        if config.darkening == DarkeningConfig():
            return ir, vis_y
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        # A patch's place in the whole batch: what happens to it does not depend on the devices.
        first = 0 if losses.axis is None else jax.lax.axis_index(losses.axis) * len(ir)
        return darken(ir, vis_y, key, config.darkening, first)

    def averaged(state: TrainState, params: dict) -> dict:
        decay = jnp.minimum(config.average, (1 + state.step) / (10 + state.step))
        return optax.incremental_update(params["fusion"], state.average, 1 - decay)

    def update(state: TrainState, ir: Array, vis_y: Array) -> tuple[TrainState, Terms]:
        images = prepare(state.step, to_unit(ir), to_unit(vis_y))
        grads, (batch_stats, terms) = jax.grad(loss, has_aux=True)(state.params, state.batch_stats, *images)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        norm = optax.tree.norm(grads)
        # NaN is below nothing.
        good = jnp.isfinite(terms["total"]) & (norm < config.guard.max_grad_norm)
        params = optax.apply_updates(state.params, updates)
        new = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state}
        if config.average:
            new["average"] = averaged(state, params)
        old = {name: getattr(state, name) for name in new}
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, old)
        state = state.replace(step=state.step + 1, **kept)  # type: ignore[attr-defined]
        return state, {**terms, "grad_norm": norm, "skipped": 1.0 - good.astype(jnp.float32)}

    return update
