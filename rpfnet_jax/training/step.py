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
from rpfnet_jax.training.devices import AXIS
from rpfnet_jax.training.state import Networks, TrainState

Terms = dict[str, Float[Array, ""]]
TrainStep = Callable[[TrainState, Any, Any], tuple[TrainState, Terms]]


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """What is done about updates that would ruin the parameters.

    Attributes:
        max_grad_norm: an update whose gradient has a norm not below this is skipped, as is one with a loss or gradient
            that is not finite.
        patience: how many in a row are skipped before the run stops.
    """

    max_grad_norm: float = 1e4
    patience: int = 10

    def __post_init__(self) -> None:
        if not self.max_grad_norm > 0 or self.patience < 1:
            raise ValueError(f"guard.max_grad_norm must be positive and guard.patience at least 1, got {self}")


def to_unit(image: UInt8[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """8-bit grey levels to float32 in [0, 1], on the device: a quarter of the bytes to transfer."""
    return image.astype(jnp.float32) / 255.0


def make_train_step(
    networks: Networks,
    losses: LossConfig,
    optimizer: optax.GradientTransformation,
    compute: Compute = Compute(),
    guard: GuardConfig = GuardConfig(),
) -> TrainStep:
    """Compiles one update of the networks; `losses.auxiliary` says whether there are two.

    Args:
        networks: what is trained.
        losses: the objective.
        optimizer: from `make_optimizer`.
        compute: how. Each device of its mesh computes its share of each microbatch, and the update is that of the whole
            batch. Where the microbatches can't be divided among them (the last, smaller batch of an epoch) each
            computes the whole batch: they all need its result, and none has anything else to do.
        guard: which updates are skipped: they count as steps and change nothing else.

    Returns:
        A jitted function (state, ir, vis_y) -> (state, terms). `ir` and `vis_y` are uint8 (B, H, W, 1); the given state
        is donated and must not be used again; with a mesh it must be on all its devices. `terms` is a flat dict of
        float32 scalars: those of `rpfnet_jax.losses.objective` and `grad_norm`, the global norm of all gradients,
        and `skipped`, 1 or 0.
    """
    alone = _make_update(compute.prepare(networks, spread=False), losses, optimizer, guard)
    together = None
    if compute.mesh is not None:
        together = jax.shard_map(
            _make_update(
                compute.prepare(networks, spread=True), dataclasses.replace(losses, axis=AXIS), optimizer, guard
            ),
            mesh=compute.mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        )

    def train_step(state: TrainState, ir: Array, vis_y: Array) -> tuple[TrainState, Terms]:
        microbatches = compute.split(ir, vis_y)
        return (together if together and compute.divides(microbatches) else alone)(state, microbatches)

    return jax.jit(train_step, donate_argnums=0, compiler_options=compute.compiler_options())


def _make_update(
    networks: Networks, losses: LossConfig, optimizer: optax.GradientTransformation, guard: GuardConfig
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
        updated, aux_map = {"fusion": update["batch_stats"]}, None
        if networks.auxiliary is not None:
            aux_map, update = apply("auxiliary", stages[-1].residual)
            updated["auxiliary"] = update["batch_stats"]
        total, terms = objective(fused, aux_map, ir, vis_y, losses)
        return total, (updated, terms)

    gradient = jax.grad(loss, has_aux=True)

    def accumulated(state: TrainState, microbatches: list[Microbatch]) -> tuple[Any, dict, Terms]:
        """Gradients and terms, both the mean over all patches, and the running statistics after the last of them."""
        count = sum(len(ir) for ir, _ in microbatches)
        sums, params, batch_stats = None, state.params, state.batch_stats
        # Unrolled on purpose: a convolution's gradient inside lax.scan is about 40 times slower on CPU.
        for ir, vis_y in microbatches:
            if sums is not None:
                # One after the other, or the memory of all is taken at once.
                params, sums = jax.lax.optimization_barrier((params, sums))
            grads, (batch_stats, terms) = gradient(params, batch_stats, to_unit(ir), to_unit(vis_y))
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
        good = jnp.isfinite(terms["total"]) & (norm < guard.max_grad_norm)
        new = {"params": optax.apply_updates(state.params, updates), "batch_stats": batch_stats, "opt_state": opt_state}
        old = {name: getattr(state, name) for name in new}
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, old)
        state = state.replace(step=state.step + 1, **kept)  # type: ignore[attr-defined]
        return state, {**terms, "grad_norm": norm, "skipped": 1.0 - good.astype(jnp.float32)}

    return update
