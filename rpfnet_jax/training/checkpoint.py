"""Orbax checkpoints of a run: the two latest and the best, each with everything that exact continuation needs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from rpfnet_jax.training.state import TrainState

FORMAT_VERSION = 2
# Format 1 had no checksums.
_READABLE = (1, FORMAT_VERSION)


class CheckpointError(RuntimeError):
    """The run can't continue from a checkpoint, or can't write one; the message says why and what to do."""


class DamagedError(CheckpointError):
    """A checkpoint can't be read, or does not hold the values that were written."""


class Restored(NamedTuple):
    """A checkpoint that was read back: the state, in NumPy arrays, and the data iterator's position."""

    state: TrainState
    data: dict[str, Any]


class Checkpoints:
    """Reads and writes the checkpoints of one run; a context manager that finishes pending writes.

    Orbax writes into a temporary folder and renames it, so that a killed run leaves no partial checkpoint. Damage that
    happens later is found by checksums.

    Args:
        directory: where they are; made if missing.
        config: the run's configuration, JSON-able; checkpoints of another configuration are refused.
        monitor: name of the validation metric, higher is better, that decides which checkpoint is the best.
        normalise: brings a checkpoint's configuration, which an older version may have written, to `config`'s form.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        config: Mapping[str, Any],
        monitor: str,
        normalise: Callable[[dict[str, Any]], Mapping[str, Any]] = dict,
    ):
        self._directory = Path(directory).absolute()
        self._config, self._monitor, self._normalise = dict(config), monitor, normalise
        self._damaged_folder = self._directory.with_name(f"{self._directory.name}-damaged")
        self._found_damage = False
        self._manager: Any = None
        # Orbax reads the metrics of all checkpoints as soon as it opens a folder, and fails if it can't.
        for path in self._directory.glob("[0-9]*/metrics/metrics"):
            if not _holds_numbers(path):
                kept = self._set_aside(int(path.parents[1].name))
                warnings.warn(f"{path} is damaged; going on with an older one. {kept}", stacklevel=2)

        # Of several processes only the main one has checkpoints, see `parallel.SharedCheckpoints`.
        alone = {"primary_host": 0, "active_processes": {0}} if jax.process_count() > 1 else {}
        self._directory.mkdir(parents=True, exist_ok=True)
        best = BestN(get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                # The policy decides what is kept; Orbax writes metrics only where there is a `best_fn` as well.
                preservation_policy=AnyPreservationPolicy([LatestN(2), best]),
                best_fn=self._score,
                enable_async_checkpointing=False,
                multiprocessing_options=ocp.options.MultiprocessingOptions(**alone),
                create=False,
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: Any) -> None:
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
        step, latest = int(state.step), self.latest_step
        if step == latest:
            return
        header = {"format_version": FORMAT_VERSION, "config": self._config, "data": dict(data)}
        # As NumPy arrays, because a continued run may have other devices.
        values = jax.device_get(state)
        header["sha256"] = {"header": _digest_header(header), "state": _digest_state(values)}
        items = ocp.args.Composite(state=ocp.args.StandardSave(values), header=ocp.args.JsonSave(header))
        try:
            self._manager.save(step, args=items, metrics=dict(metrics or {}))
        # Orbax and its storage layer raise many kinds of errors.
        except Exception as error:
            intact = "There is no older one" if latest is None else f"That of step {latest} is intact"
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self._directory}: {_summary(error)}. "
                f"{intact}; the same command continues from there."
            ) from error

    def restore_latest(self, template: TrainState) -> Restored | None:
        """Reads the newest checkpoint that is not damaged; returns None when there has never been one.

        Damaged ones are moved to `<directory>-damaged`, with a warning.

        Raises:
            CheckpointError: as `restore`, or all checkpoints are damaged.
        """
        while (step := self.latest_step) is not None:
            try:
                return self.restore(template, step)
            except DamagedError as error:
                warnings.warn(f"{error}; going on with an older one. {self._set_aside(step)}", stacklevel=2)
        if self._found_damage:
            raise CheckpointError(
                f"all checkpoints of this run are damaged, see {self._damaged_folder}. Use a new --workdir."
            )
        return None

    def restore_best(self, template: TrainState) -> Restored | None:
        """Reads the checkpoint with the highest monitored metric; returns None where none was validated.

        Damaged ones are moved as by `restore_latest`, with a warning that names the one used instead.

        Raises:
            CheckpointError: as `restore`.
        """
        while (step := self.best_step) is not None:
            try:
                return self.restore(template, step)
            except DamagedError as error:
                kept, best = self._set_aside(step), self.best_step
                taken = "no other was validated: the last step" if best is None else f"that of step {best}"
                warnings.warn(f"the best checkpoint can't be used: {error}; {taken} is taken. {kept}", stacklevel=2)
        return None

    def restore(self, template: TrainState, step: int) -> Restored:
        """Reads the checkpoint of a step.

        Args:
            template: a state of the same structure; only shapes and dtypes are used.
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
        if changed := differing_fields(self._normalise(header["config"]), self._config):
            raise CheckpointError(
                f"{self._directory} belongs to a run with another configuration. Use a new --workdir, or set "
                "these fields back:\n" + "\n".join(changed)
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, jax.device_get(template))
        state = self._read(step, state=ocp.args.StandardRestore(abstract))["state"]
        if checked and written.get("state") != _digest_state(state):
            raise DamagedError(f"the checkpoint {path} is damaged: wrong checksum of its state")
        return Restored(state, header["data"])

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        # Orbax and its storage layer raise many kinds of errors.
        except Exception as error:
            path = self._directory / str(step)
            raise DamagedError(f"the checkpoint {path} is damaged: {_summary(error)}") from error

    def _set_aside(self, step: int) -> str:
        """Moves a damaged checkpoint out of the way of later ones; returns a sentence that says where it is."""
        self._found_damage = True
        target = self._damaged_folder / str(step)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        shutil.move(self._directory / str(step), target)
        if self._manager is not None:
            self._manager.reload()
        return f"What is left of this one: {target}"


def _digest_header(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _digest_state(state: Any) -> str:
    """Returns the SHA-256 of the names, dtypes, shapes and values of a state of NumPy arrays."""
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


def _summary(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns a line `config.name: old -> new` for each leaf in which two nested configurations differ.

    A missing field equals None.
    """
    lines = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping | None) and isinstance(after, Mapping | None):
            lines += differing_fields(before or {}, after or {}, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"  config.{prefix}{key}: {before!r} -> {after!r}")
    return lines
