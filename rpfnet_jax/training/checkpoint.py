"""Orbax checkpoints of a run: the latest and the best, each with all that is needed to continue exactly."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from rpfnet_jax.training.state import TrainState
from rpfnet_jax.weights import digest_variables

FORMAT_VERSION = 2
# Format 1 had no checksum.
_READABLE = (1, FORMAT_VERSION)
# Of several processes only one has checkpoints: `SharedCheckpoints`.
_MAIN_ALONE = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})


class CheckpointError(RuntimeError):
    """A checkpoint that this run can't continue from; the message says why and what to do."""


class DamagedError(CheckpointError):
    """A checkpoint that can't be read or is not what was written."""


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
        self._directory = Path(directory).absolute()
        self._damaged: list[int] = []
        self._manager: Any = None
        # Orbax reads them all as soon as it opens a folder.
        for path in self._directory.glob("[0-9]*/metrics/metrics"):
            if not _holds_numbers(path):
                self._bury(int(path.parents[1].name), f"{path} is damaged")

        alone = _MAIN_ALONE if jax.process_count() > 1 else ocp.options.MultiprocessingOptions()
        # Orbax makes it only where it knows of no processes that stay away.
        self._directory.mkdir(parents=True, exist_ok=True)
        best = BestN(get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                # The policy decides what is kept; Orbax writes metrics down only where there is a best_fn as well.
                preservation_policy=AnyPreservationPolicy([LatestN(2), best]),
                best_fn=self._score,
                enable_async_checkpointing=False,
                multiprocessing_options=alone,
                create=False,
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
        """Saves the state with the data position; does nothing when this step is already saved.

        Raises:
            CheckpointError: it could not be written, because the disk is full, say; older checkpoints are intact.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        header = {"format_version": FORMAT_VERSION, "config": self._config, "data": dict(data)}
        # The devices of this run need not be there when it is continued.
        values = jax.device_get(state)
        digests = {"state": _digest_state(values), "fusion": digest_variables(values.variables())}
        header["sha256"] = {"header": _digest_header(header), **digests}
        items = ocp.args.Composite(state=ocp.args.StandardSave(values), header=ocp.args.JsonSave(header))
        latest = self.latest_step
        try:
            self._manager.save(step, args=items, metrics=dict(metrics or {}))
        except Exception as error:
            # Orbax and its storage layer raise many kinds of errors.
            kept = "There is no older one" if latest is None else f"That of step {latest} is intact"
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self._directory}: {_one_line(error)}. "
                f"{kept}; the same command continues from there."
            ) from error

    def restore_latest(self, template: TrainState) -> Restored | None:
        """The newest checkpoint that can be read; None when there has never been one.

        Damaged ones are moved to `<directory>-damaged`, with a warning that says so.

        Raises:
            CheckpointError: as `restore`, or all checkpoints are damaged.
        """
        while (step := self.latest_step) is not None:
            try:
                return self.restore(template, step)
            except DamagedError as error:
                self._bury(step, str(error))
        if self._damaged:
            raise CheckpointError(f"all checkpoints of this run are damaged, see {self._grave}. Use a new --workdir.")
        return None

    def restore_best(self, template: TrainState) -> Restored | None:
        """The readable checkpoint with the highest monitored metric; None where none was validated.

        Damaged ones are moved as `restore_latest` does, with a warning that says what is best without them.

        Raises:
            CheckpointError: as `restore`.
        """
        while (step := self.best_step) is not None:
            try:
                return self.restore(template, step)
            except DamagedError as error:
                self._bury(step, f"the best checkpoint can't be used: {error}", self._name_best)
        return None

    def _name_best(self) -> str:
        left = self.best_step
        return "no other was validated: the last step is taken" if left is None else f"that of step {left} is taken"

    def restore(self, template: TrainState, step: int) -> Restored:
        """Reads the checkpoint of a step.

        Args:
            template: a state of the same structure; only shapes, dtypes and devices are used.
            step: which one.

        Raises:
            DamagedError: it can't be read, or its values are not those that were written.
            CheckpointError: it was written by another format version or for another configuration.
        """
        path = self._directory / str(step)
        header = self._read(step, header=ocp.args.JsonRestore())["header"]
        if not isinstance(header, dict) or not {"format_version", "config", "data"} <= set(header):
            raise DamagedError(f"the checkpoint {path} is damaged: no header")
        if header["format_version"] not in _READABLE:
            raise CheckpointError(
                f"{self._directory} has checkpoints of format {header['format_version']}; this version reads "
                f"formats up to {FORMAT_VERSION}. Use a new --workdir."
            )
        written = header.pop("sha256", {})
        checked = header["format_version"] > 1
        if checked and written.get("header") != _digest_header(header):
            raise DamagedError(f"the checkpoint {path} is damaged: wrong checksum of its header")
        changed = differing_fields(header["config"], self._config)
        if changed:
            raise CheckpointError(
                f"{self._directory} belongs to a run with another configuration. Use a new --workdir, or set "
                "these fields back:\n" + "\n".join(changed)
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        state = self._read(step, state=ocp.args.StandardRestore(abstract))["state"]
        if checked and written.get("state") != _digest_state(jax.device_get(state)):
            raise DamagedError(f"the checkpoint {path} is damaged: wrong checksum of its state")
        return Restored(state, header["data"])

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:
            # Orbax and its storage layer raise many kinds of errors.
            path = self._directory / str(step)
            raise DamagedError(f"the checkpoint {path} is damaged: {_one_line(error)}") from error

    @property
    def _grave(self) -> Path:
        return self._directory.with_name(f"{self._directory.name}-damaged")

    def _bury(self, step: int, reason: str, instead: Callable[[], str] = lambda: "going on with an older one") -> None:
        """Moves a damaged checkpoint away and warns; `instead` is asked afterwards what takes its place."""
        self._damaged.append(step)
        self._grave.mkdir(exist_ok=True)
        target = self._grave / str(step)
        if target.exists():
            shutil.rmtree(target)
        shutil.move(self._directory / str(step), target)
        if self._manager is not None:
            self._manager.reload()
        warnings.warn(f"{reason}; {instead()}. What is left of this one: {target}", stacklevel=3)


def _digest_header(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _digest_state(state: Any) -> str:
    """SHA-256 of the names, shapes and values of a state of NumPy arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(state):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _holds_numbers(path: Path) -> bool:
    try:
        metrics = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(metrics, dict) and all(isinstance(value, int | float) for value in metrics.values())


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line `name: old -> new` for each leaf in which two nested configurations differ."""
    lines = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping | None) and isinstance(after, Mapping | None):
            lines += differing_fields(before or {}, after or {}, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"  config.{prefix}{key}: {before!r} -> {after!r}")
    return lines
