"""Orbax checkpoints of a run: the latest and the best, each with all that is needed to continue exactly."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from rpfnet_jax.training.state import TrainState

FORMAT_VERSION = 1


class CheckpointError(RuntimeError):
    """A checkpoint that this run can't continue from; the message says why and what to do."""


class Restored(NamedTuple):
    """A checkpoint read back: the state and the data iterator's position."""

    state: TrainState
    data: dict[str, Any]


class Checkpoints:
    """Reads and writes the checkpoints of one run; a context manager that finishes pending writes.

    Orbax writes into a temporary folder and renames it, so that a killed run leaves no half checkpoint. The two latest
    and the best by `monitor` are kept.

    Args:
        directory: where they live; made if missing.
        config: the run's configuration as a JSON-able dict; a checkpoint of another configuration is refused.
        monitor: name of the validation metric, higher is better, that decides which checkpoint is best.
    """

    def __init__(self, directory: str | os.PathLike[str], config: Mapping[str, Any], monitor: str):
        self._config = dict(config)
        self._monitor = monitor

        best = BestN(get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False)
        self._manager = ocp.CheckpointManager(
            Path(directory).absolute(),
            options=ocp.CheckpointManagerOptions(
                # The policy decides what is kept; Orbax writes metrics down only where there is a best_fn as well.
                preservation_policy=AnyPreservationPolicy([LatestN(2), best]),
                best_fn=self._score,
                enable_async_checkpointing=False,
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the highest monitored metric, or None when none was ever validated."""
        step = self._manager.best_step()
        validated = step is not None and self._score(self._manager.metrics(step)) > -math.inf
        return step if validated else None

    def _score(self, metrics: Mapping[str, float] | None) -> float:
        value = (metrics or {}).get(self._monitor, math.nan)
        return -math.inf if math.isnan(value) else value

    def save(self, state: TrainState, data: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Saves the state with the data position; does nothing when this step is already saved."""
        step = int(state.step)
        if step == self.latest_step:
            return
        header = {"format_version": FORMAT_VERSION, "config": self._config, "data": dict(data)}
        # The devices of this run need not be there when it is continued.
        values = jax.device_get(state)
        items = ocp.args.Composite(state=ocp.args.StandardSave(values), header=ocp.args.JsonSave(header))
        self._manager.save(step, args=items, metrics=dict(metrics or {}))

    def restore(self, template: TrainState, step: int | None = None) -> Restored:
        """Reads a checkpoint, the latest unless `step` is given.

        Args:
            template: a state of the same structure; shapes, dtypes and devices are used.
            step: which one.

        Raises:
            CheckpointError: the checkpoint was written by another format version or for another configuration.
        """
        step = self.latest_step if step is None else step
        header = self._manager.restore(step, args=ocp.args.Composite(header=ocp.args.JsonRestore()))["header"]
        if header["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"{self._manager.directory} has checkpoints of format {header['format_version']}; this version reads "
                f"format {FORMAT_VERSION}. Use a new --workdir."
            )
        changed = differing_fields(header["config"], self._config)
        if changed:
            raise CheckpointError(
                f"{self._manager.directory} belongs to a run with another configuration. Use a new --workdir, or set "
                "these fields back:\n" + "\n".join(changed)
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return Restored(self._manager.restore(step, args=items)["state"], header["data"])


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line `name: old -> new` for each leaf in which two nested configurations differ."""
    lines = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differing_fields(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"  config.{prefix}{key}: {before!r} -> {after!r}")
    return lines
