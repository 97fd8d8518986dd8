"""The checkpoints of a run of one or several processes: the main one reads and writes them, all get what it read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import jax

from rpfnet_jax.training.checkpoint import Checkpoints, Restored
from rpfnet_jax.training.processes import from_main, is_main, json_from_main, together
from rpfnet_jax.training.state import TrainState

_WHAT = "checkpoints"


class SharedCheckpoints:
    """`Checkpoints`, every call of which is made by every process; what fails in the main one fails in all.

    All of a state is on every device, so the main process has all of it: nobody else needs to see the folder.

    Args and raises: as `Checkpoints`; in the other processes a `PeerError` instead.
    """

    def __init__(self, directory: str | os.PathLike[str], config: Mapping[str, Any], monitor: str):
        self._own: Checkpoints | None = None
        with together(_WHAT):
            if is_main():
                self._own = Checkpoints(directory, config, monitor)

    def __enter__(self) -> SharedCheckpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            self._own.__exit__(kind, error, trace)

    @property
    def best_step(self) -> int | None:
        """As `Checkpoints.best_step`."""
        return json_from_main(self._own.best_step if self._own is not None else None)

    def save(self, state: TrainState, data: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """As `Checkpoints.save`; the metrics are those of the main process."""
        with together(_WHAT):
            if self._own is not None:
                self._own.save(state, data, metrics)

    def restore_latest(self, template: TrainState) -> Restored | None:
        """As `Checkpoints.restore_latest`; NumPy arrays if there are several processes."""
        with together(_WHAT):
            restored = self._own.restore_latest(_local(template)) if self._own is not None else None
        return self._spread(restored, template)

    def restore_best(self, template: TrainState) -> Restored | None:
        """As `restore_latest`, of the best step that can be used."""
        with together(_WHAT):
            restored = self._own.restore_best(_local(template)) if self._own is not None else None
        return self._spread(restored, template)

    def _spread(self, restored: Restored | None, template: TrainState) -> Restored | None:
        if jax.process_count() == 1:
            return restored
        data = json_from_main(restored and restored.data)
        if data is None:
            return None
        return Restored(from_main(restored.state if restored else jax.device_get(template)), data)


def _local(template: TrainState) -> TrainState:
    """A template that asks for NumPy arrays where its own are on other processes' devices, too."""
    return template if jax.process_count() == 1 else jax.device_get(template)
