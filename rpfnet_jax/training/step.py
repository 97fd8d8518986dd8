"""One update of the networks: which patches it sees, which updates it skips, how it is computed.

The step is compiled as a whole. On several devices it runs under `jax.shard_map`, with all reductions (norm statistics,
batch-wide loss terms, gradients) written out: under a plain `jit` of sharded arrays every FFT would gather the whole
batch on every device.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, UInt8

from rpfnet_jax.losses import LossConfig, objective
from rpfnet_jax.model import RuntimeOptions
from rpfnet_jax.ops.convolution import Precision
from rpfnet_jax.training.state import Networks, TrainState

# Name of the mesh axis that batches are spread over.
AXIS = "data"

Microbatch = tuple[UInt8[Array, "_ h w 1"], UInt8[Array, "_ h w 1"]]
Cut = Callable[[Any, Any], tuple[Array, Array]]
Terms = dict[str, Float[Array, ""]]
TrainStep = Callable[[TrainState, Any, Any], tuple[TrainState, Terms]]


# ------------------------------------------------------------------------------------------------------- Configuration


@dataclasses.dataclass(frozen=True)
class DarkeningConfig:
    """Shares of the patches that `darken` changes.

    Attributes:
        vis: share of the patches whose visible side is made dark and noisy.
        ir: share of the patches whose infrared side is, independently of the other.
    """

    vis: float = 0.0
    ir: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vis", "ir"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"darkening.{name} is a share from 0 to 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """Updates that would ruin the parameters are skipped.

    Attributes:
        max_grad_norm: an update is skipped if its gradient's norm is not below this, or if loss or gradient is not
            finite.
        patience: the run stops after so many skipped updates in a row.
    """

    max_grad_norm: float = 1e4
    patience: int = 10

    def __post_init__(self) -> None:
        if not self.max_grad_norm > 0 or self.patience < 1:
            raise ValueError(f"guard.max_grad_norm must be positive and guard.patience at least 1, got {self}")


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What an update does besides descending the gradient.

    Attributes:
        guard: which updates are skipped; they count as steps and change nothing else.
        darkening: which patches are darkened before the networks and losses see them.
        seed: draws the darkening, together with the number of the step.
        average: decay of the moving average of the fusion network's parameters, below 1; 0: none is kept. In the first
            steps it is (1 + step) / (10 + step) where that is less, so that the initial parameters are soon forgotten.
    """

    guard: GuardConfig = GuardConfig()
    darkening: DarkeningConfig = DarkeningConfig()
    seed: int = 0
    average: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be a decay in [0, 1), got {self.average}")


@dataclasses.dataclass(frozen=True)
class Compute:
    """How an update is computed: what fits it to the machine.

    Attributes:
        mesh: see `rpfnet_jax.training.feed.make_mesh`; its devices share each microbatch. Changes only rounding.
        accumulate: microbatches per update, computed one after the other. Their mean gradient is followed; each has
            batch statistics and batch-wide thresholds of its own, so that this is a choice of the recipe as well.
        remat: see `rpfnet_jax.model.RuntimeOptions`. Changes only rounding.
        precision: likewise; changes what is learned as rounding does, 2^-9 of each operand.
        cut: makes the patches, `ir` and `vis_y`, of the step's two inputs; None: the inputs are the patches.
    """

    mesh: Mesh | None = None
    accumulate: int = 1
    remat: bool = False
    precision: Precision = "float32"
    cut: Cut | None = None

    def __post_init__(self) -> None:
        if type(self.accumulate) is not int or self.accumulate < 1:
            raise ValueError(f"compute.accumulate must be a positive number of microbatches, got {self.accumulate!r}")
        try:
            self.runtime(None)
        except ValueError as error:
            raise ValueError(f"compute.{error}") from error

    def runtime(self, axis: str | None) -> RuntimeOptions:
        """Returns the networks' options, for a batch that is spread over this mesh axis or not spread at all."""
        return RuntimeOptions(axis, self.remat, self.precision)

    def microbatch(self, batch_size: int) -> int:
        """Returns how many patches are computed at once.

        Raises:
            ValueError: the batch can't be divided into equal microbatches.
        """
        if batch_size % self.accumulate:
            raise ValueError(
                f"compute.accumulate is {self.accumulate}, which does not divide the batch_size of {batch_size}"
            )
        return batch_size // self.accumulate

    def split(self, ir: UInt8[Array, "b h w 1"], vis_y: UInt8[Array, "b h w 1"]) -> list[Microbatch]:
        """Splits a batch into its microbatches; of an epoch's last, smaller batch they may be fewer and unequal."""
        if self.accumulate == 1:
            return [(ir, vis_y)]
        size = -(-len(ir) // self.accumulate)
        cuts = list(range(size, len(ir), size))
        return list(zip(jnp.split(ir, cuts), jnp.split(vis_y, cuts), strict=True))

    def compiler_options(self) -> dict[str, str] | None:
        """Returns options for XLA; None for its defaults.

        XLA's CPU compiler removes, before it merges and orders operations, the barriers that keep a stage's second
        computation apart from the first, and microbatches one after the other. Without this option neither would save
        memory.
        """
        if jax.default_backend() != "cpu" or not (self.remat or self.accumulate > 1):
            return None
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}


# ----------------------------------------------------------------------------------------------------------- Darkening

# Each is drawn uniformly from its range. Night scenes of MSRS have a mean luminance of 0.05 to 0.15, a few lamps, and
# noise of 1 to 2 per cent.
_GAMMA = (1.0, 3.0)
_GAIN_IR, _GAIN_VIS = (0.4, 1.0), (0.1, 0.8)
_NOISE = (0.0, 0.02)


def darken(
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    key: Array,
    config: DarkeningConfig,
    first: int | Array = 0,
) -> tuple[Float[Array, "b h w 1"], Float[Array, "b h w 1"]]:
    """Darkens a share of the patches: gain * x^gamma plus noise, clipped to [0, 1]; the others stay as they are.

    Well-exposed training images teach a network nothing about the dark, so that night images are out of its training's
    range. A darkened source also keeps it from always relying on the same one of the two.

    Args:
        ir: infrared patches in [0, 1].
        vis_y: visible luminance in [0, 1].
        key: of this step. What happens to a patch depends on it and on the patch's place in the whole batch.
        config: the shares.
        first: place in the whole batch of the first patch given.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(len(ir)))
    keys = jax.vmap(jax.random.split)(keys)
    return _darken_side(ir, keys[:, 0], config.ir, _GAIN_IR), _darken_side(vis_y, keys[:, 1], config.vis, _GAIN_VIS)


def _darken_side(images: Array, keys: Array, share: float, gain: tuple[float, float]) -> Array:
    if share == 0:
        return images

    def darken_one(image: Array, key: Array) -> Array:
        chosen, *amounts, grain = jax.random.split(key, 5)
        ranges = (_GAMMA, gain, _NOISE)
        gamma, scale, sigma = (
            jax.random.uniform(k, (), minval=a, maxval=b) for k, (a, b) in zip(amounts, ranges, strict=True)
        )
        dark = scale * jnp.maximum(image, 1e-4) ** gamma + sigma * jax.random.normal(grain, image.shape)
        return jnp.where(jax.random.uniform(chosen) < share, jnp.clip(dark, 0, 1), image)

    return jax.vmap(darken_one)(images, keys)


# ---------------------------------------------------------------------------------------------------------------- Step


def to_unit(image: UInt8[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """Converts 8-bit grey levels to float32 in [0, 1], on the device: a quarter of the bytes to transfer."""
    return image.astype(jnp.float32) / 255.0


@functools.lru_cache(maxsize=4)
def make_train_step(
    networks: Networks,
    losses: LossConfig,
    optimizer: optax.GradientTransformation,
    compute: Compute = Compute(),
    config: StepConfig = StepConfig(),
) -> TrainStep:
    """Makes the compiled update of the networks; the same arguments give the same function, which compiles only once.

    Each device of the mesh computes its share of each microbatch, and the update is that of the whole batch. Where the
    microbatches can't be divided among them (an epoch's last, smaller batch), each computes the whole batch: they all
    need its result.

    Args:
        networks: what is trained; `losses.auxiliary` says whether there are two.
        losses: the objective.
        optimizer: see `make_optimizer`.
        compute: how it is computed.
        config: what else a step does.

    Returns:
        A jitted function (state, ir, vis_y) -> (state, terms). `ir` and `vis_y` are uint8 (B, H, W, 1), or the inputs
        of `compute.cut`. The given state is donated and must not be used again; with a mesh it must be on all its
        devices. `terms` is a flat dict of float32 scalars: those of `rpfnet_jax.losses.objective`, `grad_norm` (global
        norm of all gradients), and `skipped` (1 or 0).
    """
    mesh = compute.mesh
    update_alone = update_shared = _Update(networks, losses, optimizer, config, compute.runtime(None))
    if mesh is not None:
        update_shared = jax.shard_map(
            _Update(networks, losses, optimizer, config, compute.runtime(AXIS)),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        )

    def train_step(state: TrainState, ir: Any, vis_y: Any) -> tuple[TrainState, Terms]:
        if compute.cut is not None:
            ir, vis_y = compute.cut(ir, vis_y)
        microbatches = compute.split(ir, vis_y)
        divisible = mesh is not None and not any(len(ir) % mesh.size for ir, _ in microbatches)
        return (update_shared if divisible else update_alone)(state, microbatches)

    return jax.jit(train_step, donate_argnums=0, compiler_options=compute.compiler_options())


class _Update:
    """The update itself: of whole microbatches or, with `runtime.axis`, of this device's share of each.

    Called with a state and microbatches, it returns the next state and the terms.
    """

    def __init__(
        self,
        networks: Networks,
        losses: LossConfig,
        optimizer: optax.GradientTransformation,
        config: StepConfig,
        runtime: RuntimeOptions,
    ):
        self.axis = runtime.axis
        clones: list[Any] = [network and network.clone(runtime=runtime) for network in networks]
        self.networks = Networks(*clones)
        self.losses = dataclasses.replace(losses, axis=self.axis)
        self.optimizer, self.config = optimizer, config

    def __call__(self, state: TrainState, microbatches: list[Microbatch]) -> tuple[TrainState, Terms]:
        grads, batch_stats, terms = self.accumulate(state, microbatches)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        norm = optax.tree.norm(grads)
        # A NaN is below nothing.
        good = jnp.isfinite(terms["total"]) & (norm < self.config.guard.max_grad_norm)
        params = optax.apply_updates(state.params, updates)
        new = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state}
        if self.config.average:
            decay = jnp.minimum(self.config.average, (1 + state.step) / (10 + state.step))
            new["average"] = optax.incremental_update(params["fusion"], state.average, 1 - decay)
        old = {name: getattr(state, name) for name in new}
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, old)
        state = state.replace(step=state.step + 1, **kept)  # type: ignore[attr-defined]
        return state, {**terms, "grad_norm": norm, "skipped": 1.0 - good.astype(jnp.float32)}

    def accumulate(self, state: TrainState, microbatches: list[Microbatch]) -> tuple[Any, dict, Terms]:
        """Returns gradients and terms, both means over all patches, and the running statistics after the last one."""
        count = sum(len(ir) for ir, _ in microbatches)
        sums, params, batch_stats, done = None, state.params, state.batch_stats, 0
        # Unrolled on purpose: a convolution's gradient inside lax.scan is about 40 times slower on CPU.
        for ir, vis_y in microbatches:
            if sums is not None:
                # Computed one after the other; otherwise the memory of all would be taken at once.
                params, sums = jax.lax.optimization_barrier((params, sums))
            inputs = self.prepare(state.step, ir, vis_y, done)
            grads, (batch_stats, terms) = jax.grad(self.loss, has_aux=True)(params, batch_stats, *inputs)
            done += len(ir)
            if len(ir) == count:
                return grads, batch_stats, terms
            weighted = jax.tree.map(lambda x, weight=len(ir) / count: x * weight, (grads, terms))
            sums = weighted if sums is None else jax.tree.map(jnp.add, sums, weighted)
        grads, terms = sums
        return grads, batch_stats, terms

    def prepare(self, step: Array, ir: Array, vis_y: Array, patches_before: int) -> tuple[Array, Array]:
        """Converts this device's part of a microbatch to [0, 1] and darkens it."""
        images = to_unit(ir), to_unit(vis_y)
        if self.config.darkening == DarkeningConfig():
            return images
        key = jax.random.fold_in(jax.random.key(self.config.seed), step)
        # Places count through the whole batch, so that the darkening does not depend on the devices.
        first: int | Array = patches_before
        if self.axis is not None:
            first = patches_before * jax.lax.axis_size(self.axis) + jax.lax.axis_index(self.axis) * len(ir)
        return darken(*images, key, self.config.darkening, first)

    def loss(self, params: dict, batch_stats: dict, ir: Array, vis_y: Array) -> tuple[Array, tuple[dict, Terms]]:
        """Computes the objective; returns it with the updated running statistics and its terms."""
        if self.axis is not None:
            # Makes the gradient of `params`, which every device holds, the sum over the devices.
            params = jax.lax.pcast(params, self.axis, to="varying")

        def apply(name: str, *inputs: Array, **options: bool) -> tuple:
            variables = {"params": params[name], "batch_stats": batch_stats[name]}
            network = getattr(self.networks, name)
            return network.apply(variables, *inputs, norm="batch", mutable=["batch_stats"], **options)

        (fused, stages), update = apply("fusion", ir, vis_y, features=True)
        updated, aux_map = {"fusion": update.get("batch_stats", {})}, None
        if self.networks.auxiliary is not None:
            aux_map, update = apply("auxiliary", stages[-1].residual)
            updated["auxiliary"] = update.get("batch_stats", {})
        total, terms = objective(fused, aux_map, ir, vis_y, self.losses)
        return total, (updated, terms)
