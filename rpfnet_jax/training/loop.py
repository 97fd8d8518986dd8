"""Ctrl-C and SIGTERM as a request to stop after the current step."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import jax
import numpy as np

from rpfnet_jax.data.patches import PatchSource
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training.checkpoint import CheckpointError
from rpfnet_jax.training.feed import Residence, make_feed
from rpfnet_jax.training.monitor import Monitor, make_panels
from rpfnet_jax.training.optimizer import OptimizerConfig, make_optimizer
from rpfnet_jax.training.parallel import (
    Consensus,
    Devices,
    SharedCheckpoints,
    any_process,
    fail_together,
    is_main,
    make_mesh,
    replicate,
)
from rpfnet_jax.training.state import TrainState, create_state, make_networks
from rpfnet_jax.training.step import Compute, StepConfig, make_train_step


class Interrupt:
    """Context manager that turns SIGINT and SIGTERM into a flag; a second signal acts as it did before.

    Outside the main thread (a notebook server's worker, say) signals can't be caught and the flag stays False.

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())


PANEL_PATCHES = 4

Validate = Callable[[dict[str, Any]], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """Everything that determines a training run, apart from its data.

    Attributes:
        model: the fusion network.
        losses: the objective.
        optimizer: both Adams.
        total_steps: updates to make.
        batch_size: patches per update.
        seed: draws the initial parameters and the order of the patches.
        log_every: steps between looks at the loss terms.
        panels_every: steps between image panels; 0: only at the end.
        validate_every: steps between validations; 0: only at the end.
        checkpoint_every: steps between checkpoints, besides those at validations and at the end; 0: none besides.
        monitor: the validation metric, higher is better, that decides which checkpoint is best.
        devices: how many, of all processes, share each microbatch; "auto": as many as divide it.
        resident: whether the pictures stay on the devices, see `make_feed`.
        compute: how an update is computed, but for the devices and where its patches come from.
        step: what an update does besides descending the gradient.
    """

    model: ModelConfig
    losses: LossConfig
    optimizer: OptimizerConfig
    total_steps: int
    batch_size: int
    seed: int
    log_every: int
    panels_every: int
    validate_every: int
    checkpoint_every: int
    monitor: str
    devices: Devices = 1
    resident: Residence = "auto"
    compute: Compute = Compute()
    step: StepConfig = StepConfig()

    def __post_init__(self) -> None:
        for name in ("total_steps", "batch_size", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.compute.microbatch(self.batch_size)
        for name in ("panels_every", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        state: the state after the last step made.
        best: variables of the fusion network at the best validation; those of `state` when there was none.
        finished: False when a signal asked the run to stop; the same call then continues it.
        seconds: what the steps of this call took, compilation, panels and checkpoints among them, validation not.
    """

    state: TrainState
    best: dict[str, Any]
    finished: bool
    seconds: float


def train(
    plan: TrainingPlan, source: PatchSource, workdir: Path, validate: Validate, config: Mapping[str, Any]
) -> TrainingResult:
    """Trains until `plan.total_steps`, from the newest checkpoint in `workdir` if there is one.

    A resumed run equals the uninterrupted one, on the same devices of a CPU bit for bit: state, optimizer and data
    position are restored exactly.

    Args:
        plan: the run.
        source: training patches.
        workdir: checkpoints and TensorBoard files go here.
        validate: maps the fusion network's variables to validation metrics, `plan.monitor` among them.
        config: the run's configuration, JSON-able; kept in the checkpoints, which a run with another one refuses.

    Raises:
        DivergedError: `plan.step.guard` gives up; the last good checkpoint is kept.
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

    state = create_state(networks, optimizer, plan.seed, plan.step.average > 0)
    iterator = feed.batches(plan.batch_size, plan.seed)
    consensus = Consensus()
    with SharedCheckpoints(workdir / "checkpoints", config, plan.monitor) as checkpoints, Interrupt() as interrupt:
        restored = checkpoints.restore_latest(state)
        if restored is not None:
            state = restored.state
            iterator.set_state(restored.data)
        step = int(state.step)
        state = replicate(state, mesh)
        if step > plan.total_steps:
            raise CheckpointError(f"{workdir} is at step {step}, past the {plan.total_steps} asked for")

        with Monitor(workdir, step, plan.total_steps, plan.step.guard.patience, silent=not is_main()) as monitor:
            if step:
                monitor.say(f"resuming {workdir} at step {step}")
            begun, validated = time.perf_counter(), 0.0
            stopping = any_process(interrupt.requested)
            while step < plan.total_steps and not stopping:
                batch = next(iterator)
                state, terms = train_step(state, *feed(batch))
                step += 1
                monitor.record(step, terms, source.names(batch["index"]))

                def due(interval: int, step: int = step) -> bool:
                    return step == plan.total_steps or (interval > 0 and step % interval == 0)

                validating = due(plan.validate_every)
                saving = validating or due(plan.checkpoint_every)
                # Before saving as well: a run that gives up keeps its checkpoints from before.
                if due(plan.log_every) or saving:
                    with fail_together("monitoring"):
                        monitor.flush()
                if due(plan.panels_every) and is_main():
                    picture = panels(jax.device_get(state), panel_batch["ir"], panel_batch["vis"])
                    monitor.image(step, "train/ir_vis_fused_map_weight", np.asarray(picture))
                metrics = None
                if validating:
                    paused = time.perf_counter()
                    try:
                        with fail_together("validation"):
                            if is_main():
                                metrics = dict(validate(jax.device_get(state.variables())))
                    except BaseException:
                        # The steps are good; only looking at them failed.
                        checkpoints.save(state, iterator.get_state())
                        raise
                    validated += time.perf_counter() - paused
                if metrics is not None:
                    monitor.scalars(step, {f"validation/{name}": value for name, value in metrics.items()})
                    monitor.say(f"step {step}: {plan.monitor} {metrics[plan.monitor]:.4f}")
                if saving:
                    checkpoints.save(state, iterator.get_state(), metrics)
                stopping = consensus(interrupt.requested)
            stopping = stopping or any_process(interrupt.requested)
            if stopping:
                with fail_together("monitoring"):
                    monitor.flush()
                checkpoints.save(state, iterator.get_state())
            seconds = time.perf_counter() - begun - validated

        restored = None if checkpoints.best_step == step else checkpoints.restore_best(state)
        best = state if restored is None else restored.state
        finished = step == plan.total_steps and not stopping
        return TrainingResult(jax.device_get(state), jax.device_get(best.variables()), finished, seconds)
