"""Night made of day: random darkening of training patches, on the device.

The sets with well-exposed pictures teach a network nothing about the dark: what it meets at night is then out of its
training's range. A darkened source also breaks the habit of taking one of the two for granted.
"""

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
from rpfnet_jax.model import RuntimeOptions
from rpfnet_jax.ops.convolution import Precision
from rpfnet_jax.training.parallel import AXIS
from rpfnet_jax.training.state import Networks, TrainState

# Each is drawn uniformly between its two ends. Night scenes of MSRS have a mean luminance of 0.05 to 0.15, a few lamps
# and noise of 1 to 2 per cent.
_GAMMA = (1.0, 3.0)
_GAIN = {"ir": (0.4, 1.0), "vis_y": (0.1, 0.8)}
_NOISE = (0.0, 0.02)


@dataclasses.dataclass(frozen=True)
class DarkeningConfig:
    """How many patches are darkened.

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


def darken(
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    key: Array,
    config: DarkeningConfig,
    first: int | Array = 0,
) -> tuple[Float[Array, "b h w 1"], Float[Array, "b h w 1"]]:
    """Darkens a share of the patches: gain * x^gamma plus noise, clipped to [0, 1]; the others stay as they are.

    Args:
        ir: infrared patches in [0, 1].
        vis_y: visible luminance, same shape.
        key: of this step. What happens to a patch depends on it and on the patch's place in the whole batch.
        config: the shares.
        first: place in the whole batch of the first patch given.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(len(ir)))
    keys = jax.vmap(jax.random.split)(keys)
    return _side(ir, keys[:, 0], config.ir, _GAIN["ir"]), _side(vis_y, keys[:, 1], config.vis, _GAIN["vis_y"])


def _side(images: Array, keys: Array, share: float, gain: tuple[float, float]) -> Array:
    if share == 0:
        return images

    def one(image: Array, key: Array) -> Array:
        chosen, *amounts, grain = jax.random.split(key, 5)
        ends = (_GAMMA, gain, _NOISE)
        gamma, scale, sigma = (
            jax.random.uniform(k, (), minval=a, maxval=b) for k, (a, b) in zip(amounts, ends, strict=True)
        )
        dark = scale * jnp.maximum(image, 1e-4) ** gamma + sigma * jax.random.normal(grain, image.shape)
        return jnp.where(jax.random.uniform(chosen) < share, jnp.clip(dark, 0, 1), image)

    return jax.vmap(one)(images, keys)


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


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Choices of a train step.

    Attributes:
        guard: which updates are skipped: they count as steps and change nothing else.
        darkening: which patches are made dark before the networks and losses see them.
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


Microbatch = tuple[UInt8[Array, "_ h w 1"], UInt8[Array, "_ h w 1"]]
Cut = Callable[[Any, Any], tuple[Array, Array]]


@dataclasses.dataclass(frozen=True)
class Compute:
    """What fits an update to the machine.

    Attributes:
        mesh: of `make_mesh`; its devices share each microbatch. Changes nothing but rounding.
        accumulate: microbatches per update, computed one after the other. Their mean gradient is followed; each has
            batch statistics and batch-wide thresholds of its own, so this is a choice of the recipe as well.
        remat: see `rpfnet_jax.model.RuntimeOptions`. Changes nothing but rounding.
        precision: as `remat`; changes what is learned as rounding does, 2^-9 of each operand.
        cut: makes the patches, ir and vis_y, of a step's two inputs, within the step; None: these are the patches.
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
            self._execution(None)
        except ValueError as error:
            raise ValueError(f"compute.{error}") from error

    def microbatch(self, batch_size: int) -> int:
        """Patches that are computed at once.

        Raises:
            ValueError: the batch can't be divided into equal microbatches.
        """
        if batch_size % self.accumulate:
            raise ValueError(
                f"compute.accumulate is {self.accumulate}, which does not divide the batch_size of {batch_size}"
            )
        return batch_size // self.accumulate

    def split(self, ir: UInt8[Array, "b h w 1"], vis_y: UInt8[Array, "b h w 1"]) -> list[Microbatch]:
        """A batch in its microbatches; of the last, smaller batch of an epoch they may be fewer and unequal."""
        if self.accumulate == 1:
            return [(ir, vis_y)]
        size = -(-len(ir) // self.accumulate)
        cuts = list(range(size, len(ir), size))
        return list(zip(jnp.split(ir, cuts), jnp.split(vis_y, cuts), strict=True))

    def divides(self, microbatches: list[Microbatch]) -> bool:
        """Whether the devices of the mesh can share each of them."""
        return self.mesh is not None and not any(len(ir) % self.mesh.size for ir, _ in microbatches)

    def prepare(self, networks: Networks, spread: bool) -> Networks:
        """The same networks, computed as this says, by each device by itself or, with `spread`, by all together."""
        execution = self._execution(AXIS if spread else None)
        clones: list[Any] = [network and network.clone(runtime=execution) for network in networks]
        return Networks(*clones)

    def compiler_options(self) -> dict[str, str] | None:
        """What XLA must be told; None where it is to do as always.

        On CPU it removes, before it merges and orders, the barriers that keep a stage's second computation apart from
        the first and microbatches one after the other: without this neither would save anything.
        """
        if jax.default_backend() != "cpu" or not (self.remat or self.accumulate > 1):
            return None
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}

    def _execution(self, axis: str | None) -> RuntimeOptions:
        return RuntimeOptions(axis, self.remat, self.precision)


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
