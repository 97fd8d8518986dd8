"""The training loop: steps, validations, checkpoints; stops after the current step on Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from rpfnet_jax.data.patches import PatchSource
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training.checkpoint import CheckpointError
from rpfnet_jax.training.feed import Devices, Residence, make_feed, make_mesh, replicate
from rpfnet_jax.training.monitor import Monitor, make_panels
from rpfnet_jax.training.optimizer import OptimizerConfig, make_optimizer
from rpfnet_jax.training.parallel import Consensus, SharedCheckpoints, any_process, fail_together, is_main
from rpfnet_jax.training.state import TrainState, create_state, make_networks
from rpfnet_jax.training.step import Compute, StepConfig, make_train_step

PANEL_PATCHES = 4


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Steps between the events of a run, each of which also happens at its end; 0: only there.

    Attributes:
        log: reading the loss terms; at least 1.
        panels: image panels in TensorBoard.
        validation: validations, each followed by a checkpoint.
        checkpoint: further checkpoints.
    """

    log: int = 10
    panels: int = 0
    validation: int = 0
    checkpoint: int = 0

    def __post_init__(self) -> None:
        if self.log < 1:
            raise ValueError(f"log.every_steps must be at least 1, got {self.log}")
        for name in ("panels", "checkpoint"):
            if getattr(self, name) < 0:
                raise ValueError(f"log.{name}_every_steps must not be negative, got {getattr(self, name)}")
        if self.validation < 0:
            raise ValueError(f"the interval of validations must not be negative, got {self.validation}")


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """Everything that determines a training run, apart from its data.

    Attributes:
        model: the fusion network.
        losses: the objective.
        optimizer: both learning rates.
        step: what an update does besides descending the gradient.
        total_steps: updates to make.
        batch_size: patches per update.
        seed: draws the initial parameters and the order of the patches.
        intervals: when to log, validate and save.
        monitor: the validation metric, higher is better, that decides which checkpoint is the best.
        compute: how an update is computed; `mesh` and `cut` follow from the next two.
        devices: see `make_mesh`.
        resident: see `make_feed`.
    """

    model: ModelConfig
    losses: LossConfig
    optimizer: OptimizerConfig
    step: StepConfig
    total_steps: int
    batch_size: int
    seed: int
    intervals: Intervals
    monitor: str
    compute: Compute = Compute()
    devices: Devices = 1
    resident: Residence = "auto"

    def __post_init__(self) -> None:
        for name in ("total_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.compute.microbatch(self.batch_size)


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """What the loop leaves to its caller; called in the main process only.

    Attributes:
        validate: maps the fusion network's variables to validation metrics, the plan's `monitor` among them.
        export: gets the step and the fusion network's variables whenever they are in the newest checkpoint.
        normalise: see `Checkpoints`.
    """

    validate: Callable[[dict[str, Any]], Mapping[str, float]]
    export: Callable[[int, dict[str, Any]], None] = lambda step, variables: None
    normalise: Callable[[dict[str, Any]], Mapping[str, Any]] = dict


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The end of a run.

    Attributes:
        state: the state after the last step made.
        best: variables of the fusion network at the best validation; those of `state` when there was none.
        finished: False when a signal asked the run to stop; the same call then continues it.
        seconds: duration of this call's steps, with compilation, panels and checkpoints and without validations.
    """

    state: TrainState
    best: dict[str, Any]
    finished: bool
    seconds: float


def train(
    plan: TrainingPlan, source: PatchSource, workdir: Path, config: Mapping[str, Any], callbacks: Callbacks
) -> TrainingResult:
    """Trains until `plan.total_steps`, from the newest checkpoint in `workdir` if there is one.

    A continued run equals the uninterrupted one, on the same devices of a CPU bit for bit: state, optimizer and data
    position are restored exactly.

    Args:
        plan: the run.
        source: training patches.
        workdir: checkpoints and TensorBoard files go here.
        config: the run's configuration, JSON-able; kept in the checkpoints, which a run with another one refuses.
        callbacks: validation and export of weights.

    Raises:
        DivergedError: too many updates in a row were skipped; the last good checkpoint is kept.
        CheckpointError: `workdir` holds checkpoints of another configuration, or a new one can't be written.
    """
    networks = make_networks(plan.model, plan.losses.auxiliary)
    optimizer = make_optimizer(plan.optimizer, plan.total_steps)
    mesh = make_mesh(plan.devices, plan.compute.microbatch(plan.batch_size))
    feed = make_feed(plan.resident, source, mesh)
    compute = dataclasses.replace(plan.compute, mesh=mesh, cut=feed.cut)
    train_step = make_train_step(networks, plan.losses, optimizer, compute, plan.step)
    panels = make_panels(networks, plan.losses)
    panel_batch = source.head(PANEL_PATCHES)
    iterator = feed.batches(plan.batch_size, plan.seed)
    state = create_state(networks, optimizer, plan.seed, plan.step.average > 0)

    with (
        SharedCheckpoints(workdir / "checkpoints", config, plan.monitor, callbacks.normalise) as checkpoints,
        Interrupt() as interrupt,
    ):

        def export() -> None:
            with fail_together("writing the weights"):
                if is_main():
                    callbacks.export(int(state.step), jax.device_get(state.variables()))

        def save(metrics: Mapping[str, float] | None = None) -> None:
            checkpoints.save(state, iterator.get_state(), metrics)
            export()

        def validate() -> dict[str, float] | None:
            try:
                with fail_together("validation"):
                    return dict(callbacks.validate(jax.device_get(state.variables()))) if is_main() else None
            except BaseException:
                # The steps are good; only their validation failed.
                save()
                raise

        restored = checkpoints.restore_latest(state)
        if restored is not None:
            state = restored.state
            iterator.set_state(restored.data)
        step = int(state.step)
        if step > plan.total_steps:
            raise CheckpointError(f"{workdir} is at step {step}, past the {plan.total_steps} asked for")
        state = replicate(state, mesh)
        if restored is not None:
            export()

        def due(interval: int) -> bool:
            return step == plan.total_steps or (interval > 0 and step % interval == 0)

        consensus, validating_seconds = Consensus(), 0.0
        with Monitor(workdir, step, plan.total_steps, plan.step.guard.patience, silent=not is_main()) as monitor:
            if step:
                monitor.say(f"resuming {workdir} at step {step}")
            begun = time.perf_counter()
            stopping = any_process(interrupt.requested)
            while step < plan.total_steps and not stopping:
                batch = next(iterator)
                state, terms = train_step(state, *feed(batch))
                step += 1
                monitor.record(step, terms, source.names(batch["index"]))

                validating = due(plan.intervals.validation)
                saving = validating or due(plan.intervals.checkpoint)
                # Before saving as well: a run that gives up keeps its checkpoints from before.
                if due(plan.intervals.log) or saving:
                    with fail_together("monitoring"):
                        (monitor.flush if saving else monitor.flush_late)()
                if due(plan.intervals.panels) and is_main():
                    panel = panels(jax.device_get(state), panel_batch["ir"], panel_batch["vis"])
                    monitor.image(step, "train/ir_vis_fused_map_weight", np.asarray(panel))
                metrics = None
                if validating:
                    paused = time.perf_counter()
                    metrics = validate()
                    validating_seconds += time.perf_counter() - paused
                if metrics is not None:
                    monitor.scalars(step, {f"validation/{name}": value for name, value in metrics.items()})
                    monitor.say(f"step {step}: {plan.monitor} {metrics[plan.monitor]:.4f}")
                if saving:
                    save(metrics)
                stopping = consensus(interrupt.requested)
            # Several processes leave the loop together, but a request may still be unanswered.
            stopping = stopping or any_process(interrupt.requested)
            if stopping:
                with fail_together("monitoring"):
                    monitor.flush()
                save()
            seconds = time.perf_counter() - begun - validating_seconds

        best = checkpoints.restore_best(state)
        finished = step == plan.total_steps and not stopping
        variables = jax.device_get(state if best is None else best.state).variables()
        return TrainingResult(jax.device_get(state), variables, finished, seconds)


class Interrupt(contextlib.AbstractContextManager):
    """Turns SIGINT and SIGTERM into a request to stop; a second signal acts as it did before.

    Outside the main thread (a notebook server's worker, say) signals can't be caught and nothing changes.

    Attributes:
        requested: True after the first signal.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: Any) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
