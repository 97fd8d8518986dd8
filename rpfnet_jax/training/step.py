"""The jitted train step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, UInt8

from rpfnet_jax.losses import LossConfig, objective
from rpfnet_jax.training.compute import Compute, Microbatch
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
    compute: Compute = Compute(),
    config: StepConfig = StepConfig(),
) -> TrainStep:
    """Compiles one update of the networks; `losses.auxiliary` says whether there are two.

    Args:
        networks: what is trained.
        losses: the objective.
        optimizer: from `make_optimizer`.
        compute: how. Each device of its mesh computes its share of each microbatch, and the update is that of the whole
            batch. Where the microbatches can't be divided among them (the last, smaller batch of an epoch) each
            computes the whole batch: they all need its result, and none has anything else to do.
        config: what else a step does.

    Returns:
        A jitted function (state, ir, vis_y) -> (state, terms). `ir` and `vis_y` are uint8 (B, H, W, 1), or what
        `compute.cut` makes them of; the given state
        is donated and must not be used again; with a mesh it must be on all its devices. `terms` is a flat dict of
        float32 scalars: those of `rpfnet_jax.losses.objective` and `grad_norm`, the global norm of all gradients,
        and `skipped`, 1 or 0.
    """
    alone = _make_update(compute.prepare(networks, spread=False), losses, optimizer, config)
    together = None
    if compute.mesh is not None:
        together = jax.shard_map(
            _make_update(
                compute.prepare(networks, spread=True), dataclasses.replace(losses, axis=AXIS), optimizer, config
            ),
            mesh=compute.mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        )

    def train_step(state: TrainState, ir: Any, vis_y: Any) -> tuple[TrainState, Terms]:
        if compute.cut is not None:
            ir, vis_y = compute.cut(ir, vis_y)
        microbatches = compute.split(ir, vis_y)
        return (together if together and compute.divides(microbatches) else alone)(state, microbatches)

    return jax.jit(train_step, donate_argnums=0, compiler_options=compute.compiler_options())


def _make_update(
    networks: Networks, losses: LossConfig, optimizer: optax.GradientTransformation, config: StepConfig
) -> Callable[[TrainState, list[Microbatch]], tuple[TrainState, Terms]]:
    """The update itself, of whole microbatches or, where `losses.axis` is set, of this device's shares of them."""

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

    gradient = jax.grad(loss, has_aux=True)

    def prepare(step: Array, ir: Array, vis_y: Array, patches_before: int) -> tuple[Array, Array]:
        """What the networks and losses see of a microbatch or of this device's share of it."""
        images = to_unit(ir), to_unit(vis_y)
        if config.darkening == DarkeningConfig():
            return images
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        # A patch's place in the whole batch: what happens to it does not depend on the devices.
        first: int | Array = patches_before
        if losses.axis is not None:
            first = patches_before * jax.lax.axis_size(losses.axis) + jax.lax.axis_index(losses.axis) * len(ir)
        return darken(*images, key, config.darkening, first)

    def accumulated(state: TrainState, microbatches: list[Microbatch]) -> tuple[Any, dict, Terms]:
        """Gradients and terms, both the mean over all patches, and the running statistics after the last of them."""
        count = sum(len(ir) for ir, _ in microbatches)
        sums, params, batch_stats, done = None, state.params, state.batch_stats, 0
        # Unrolled on purpose: a convolution's gradient inside lax.scan is about 40 times slower on CPU.
        for ir, vis_y in microbatches:
            if sums is not None:
                # One after the other, or the memory of all is taken at once.
                params, sums = jax.lax.optimization_barrier((params, sums))
            grads, (batch_stats, terms) = gradient(params, batch_stats, *prepare(state.step, ir, vis_y, done))
            done += len(ir)
            if len(ir) == count:
                return grads, batch_stats, terms
            weighted = jax.tree.map(lambda x, weight=len(ir) / count: x * weight, (grads, terms))
            sums = weighted if sums is None else jax.tree.map(jnp.add, sums, weighted)
        grads, terms = sums
        return grads, batch_stats, terms

    def update(state: TrainState, microbatches: list[Microbatch]) -> tuple[TrainState, Terms]:
        grads, batch_stats, terms = accumulated(state, microbatches)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        norm = optax.tree.norm(grads)
        # NaN is below nothing.
        good = jnp.isfinite(terms["total"]) & (norm < config.guard.max_grad_norm)
        params = optax.apply_updates(state.params, updates)
        new = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state}
        if config.average:
            decay = jnp.minimum(config.average, (1 + state.step) / (10 + state.step))
            new["average"] = optax.incremental_update(params["fusion"], state.average, 1 - decay)
        old = {name: getattr(state, name) for name in new}
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, old)
        state = state.replace(step=state.step + 1, **kept)  # type: ignore[attr-defined]
        return state, {**terms, "grad_norm": norm, "skipped": 1.0 - good.astype(jnp.float32)}

    return update
