"""Data parallelism: one mesh axis over which batches are spread, everything else is on every device.

Through `jax.shard_map`, where each device runs the step on its share and the reductions are written down: norm
statistics, batch-wide terms of the losses, gradients. Under a plain `jit` of sharded arrays every FFT gathers the whole
batch on every device.

With several processes (`processes.py`) the axis goes over the devices of all of them, one process after the other, so
that each has consecutive rows of a batch.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rpfnet_jax.files import one_line
from rpfnet_jax.training.checkpoint import Checkpoints, Restored, differing_fields
from rpfnet_jax.training.state import TrainState

AXIS = "data"

Devices = int | Literal["auto"]


def make_mesh(devices: Devices, microbatch: int) -> Mesh | None:
    """The devices of a run.

    Args:
        devices: how many, of all processes together and equally many of each; "auto": as many of those that there are
            as divide the microbatch. 1: no data parallelism.
        microbatch: patches that are computed at once: the batch, or what `Compute.accumulate` makes of it.

    Returns:
        A mesh with the one axis `AXIS`; None for a single device.

    Raises:
        ValueError: there are not as many devices, or the microbatch can't be divided among them.
    """
    processes, local = jax.process_count(), jax.local_device_count()
    available = processes * local
    if devices == "auto":
        counts = [count for count in range(processes, available + 1, processes) if microbatch % count == 0]
        if not counts:
            raise ValueError(
                f"{microbatch} patches computed at once (batch_size / compute.accumulate) can't be divided among "
                f"{processes} processes"
            )
        devices = counts[-1]
    if type(devices) is not int or devices < 1:
        raise ValueError(f'mesh.data must be "auto" or a positive number of devices, got {devices!r}')
    if devices > available:
        raise ValueError(f"mesh.data is {devices}, but there are only {available} {jax.default_backend()} device(s)")
    if devices % processes:
        raise ValueError(f"mesh.data is {devices}, which can't be divided among {processes} processes")
    if microbatch % devices:
        raise ValueError(
            f"mesh.data is {devices}, which does not divide the {microbatch} patches computed at once (batch_size / "
            "compute.accumulate)"
        )
    if devices == 1:
        return None
    chosen = [device for process in range(processes) for device in jax.local_devices(process)[: devices // processes]]
    if len(chosen) < devices:
        raise ValueError(f"mesh.data is {devices}, but some process has fewer devices than this one ({local})")
    return Mesh(np.array(chosen), (AXIS,))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """The same arrays on every device of the mesh; as they are without one. Every process gives all of them."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)


def local_rows(length: int, mesh: Mesh | None) -> slice:
    """The rows of a batch of `length` patches that this process's devices compute: its share, or all of them."""
    if mesh is None or length % mesh.size:
        return slice(0, length)
    share = length // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def spread(rows: np.ndarray, length: int, mesh: Mesh | None) -> Any:
    """A batch of `length` patches on the devices of the mesh, of which this process gives its `local_rows`."""
    if mesh is None:
        return rows
    spec = PartitionSpec() if length % mesh.size else PartitionSpec(AXIS)
    return jax.make_array_from_process_local_data(NamedSharding(mesh, spec), rows, (length, *rows.shape[1:]))


AUTO = "auto"
# Seconds that a process waits at the end for others that may be gone.
_FAREWELL = 10
# What an exception is marked with when every process is about to stop.
_AGREED = "The other processes of this run know of it and stop, too."

T = TypeVar("T")


class PeerError(RuntimeError):
    """Another process failed, which says why; this one has no reason of its own to stop."""


@contextlib.contextmanager
def joined(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> Iterator[None]:
    """Joins this process to others; to be done before JAX looks for devices. Warnings are the main process's to give.

    Args:
        coordinator: HOST:PORT, with a free port, of the machine that process 0 runs on. `auto`: SLURM, Open MPI,
            Kubernetes or Cloud TPU say this and the rest. None: nothing is joined (unless the caller did it by
            `jax.distributed.initialize`, which is left as it is).
        processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        ValueError: fields that don't go together, or nothing that `auto` knows is there.
        OSError: JAX can't join; it is in use already, say. (Where no coordinator answers for 5 minutes, JAX ends the
            process.)
    """
    given = {"processes": processes, "process_id": process_id}
    if coordinator in (None, AUTO):
        useless = [name for name, value in given.items() if value is not None]
        if useless:
            raise ValueError(f"distributed.{useless[0]} has no use without distributed.coordinator=HOST:PORT")
    elif None in given.values():
        raise ValueError("distributed.coordinator=HOST:PORT needs distributed.processes and distributed.process_id")
    ours = coordinator is not None and not jax.distributed.is_initialized()
    if ours:
        _initialize(None if coordinator == AUTO else coordinator, processes, process_id)
    with warnings.catch_warnings():
        if not is_main():
            warnings.simplefilter("ignore")
        try:
            yield
        except BaseException as error:
            # From others that know of nothing no leave can be taken: JAX would abort before the error is shown.
            if ours and (isinstance(error, PeerError) or _AGREED in getattr(error, "__notes__", ())):
                jax.distributed.shutdown()
            raise
    if ours:
        jax.distributed.shutdown()


def _initialize(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            cluster_detection_method="deactivate" if coordinator else None,
            shutdown_timeout_seconds=_FAREWELL,
        )
    except ValueError as error:
        if coordinator is not None:
            raise
        raise ValueError(
            "distributed.coordinator=auto found no SLURM, Open MPI, Kubernetes or Cloud TPU that started this process; "
            f"give HOST:PORT, distributed.processes and distributed.process_id ({error})"
        ) from error
    except RuntimeError as error:
        raise OSError(f"this process could not join the others: {one_line(error)}") from error


def is_main() -> bool:
    """Whether this is process 0."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; each must ask."""
    return flag if jax.process_count() == 1 else bool(_everywhere(flag).any())


@contextlib.contextmanager
def fail_together(what: str) -> Iterator[None]:
    """A block that each process enters and that either succeeds in all of them or fails in all of them.

    Within it no process may wait for another.

    Raises:
        PeerError: it failed elsewhere and not here.
    """
    try:
        yield
    except BaseException as error:
        if any_process(True) and jax.process_count() > 1:
            error.add_note(_AGREED)
        raise
    if jax.process_count() > 1 and (failed := _everywhere(False)).any():
        raise PeerError(f"process {int(np.argmax(failed))} failed ({what}) and says why; so this one stops, too")


def _everywhere(flag: bool) -> np.ndarray:
    """The flags of all processes, in their order."""
    return multihost_utils.process_allgather(np.array(flag)).reshape(-1)


def main_first(what: str, function: Callable[[], T]) -> T:
    """Calls the function in the main process, and in the others when it is done there: they may share a folder."""
    with fail_together(what):
        result = [function()] if is_main() else []
    with fail_together(what):
        return result[0] if result else function()


def broadcast_tree(tree: T) -> T:
    """The main process's arrays, as NumPy arrays, in every process; shapes and dtypes must be the same in each."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def broadcast_json(value: T) -> T:
    """The main process's JSON-able value in every process."""
    if jax.process_count() == 1:
        return value
    encoded = np.frombuffer(json.dumps(value).encode(), np.uint8) if is_main() else np.zeros(0, np.uint8)
    length = int(broadcast_tree(np.array(len(encoded), np.int32)))
    buffer = np.zeros(length, np.uint8)
    buffer[: len(encoded)] = encoded
    return json.loads(broadcast_tree(buffer).tobytes())


def check_agreement(facts: dict[str, Any]) -> None:
    """Compares JSON-able facts, possibly nested, on which the processes of a run must agree.

    Raises:
        ValueError: those of this process are not the main one's; the message lists how they differ.
        PeerError: those of another are not.
    """
    theirs = broadcast_json(facts)
    with fail_together("comparing the processes"):
        if differing := differing_fields(theirs, facts):
            listed = "\n".join(differing)
            raise ValueError(f"this process has another configuration or other pictures than process 0:\n{listed}")


class Consensus:
    """A wish to stop that any process may have and all follow after the same step.

    Asking all of them means waiting for the step before. So with several processes each answer is that to the question
    before, and the device always has a step to work on.
    """

    def __init__(self) -> None:
        self._asked: Any = None

    def __call__(self, wish: bool) -> bool:
        """Whether to stop now; called by every process after every step."""
        if jax.process_count() == 1:
            return wish
        before, self._asked = self._asked, _start_asking(wish)
        return before is not None and bool(before)


def _start_asking(wish: bool) -> Any:
    """Whether any process wishes it, as an array on the device that need not be there yet."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("all",))
    ours = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
    votes = np.full(jax.local_device_count(), wish)
    return _any(jax.make_array_from_process_local_data(ours, votes, (jax.device_count(),)))


@jax.jit
def _any(votes: Any) -> Any:
    return votes.any()


_WHAT = "checkpoints"


class SharedCheckpoints:
    """`Checkpoints`, every call of which is made by every process; what fails in the main one fails in all.

    All of a state is on every device, so the main process has all of it: nobody else needs to see the folder.

    Args and raises: as `Checkpoints`; in the other processes a `PeerError` instead.
    """

    def __init__(self, directory: str | os.PathLike[str], config: Mapping[str, Any], monitor: str):
        self._own: Checkpoints | None = None
        with fail_together(_WHAT):
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
        return broadcast_json(self._own.best_step if self._own is not None else None)

    def save(self, state: TrainState, data: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """As `Checkpoints.save`; the metrics are those of the main process."""
        with fail_together(_WHAT):
            if self._own is not None:
                self._own.save(state, data, metrics)

    def restore_latest(self, template: TrainState) -> Restored | None:
        """As `Checkpoints.restore_latest`; NumPy arrays if there are several processes."""
        with fail_together(_WHAT):
            restored = self._own.restore_latest(_local(template)) if self._own is not None else None
        return self._spread(restored, template)

    def restore_best(self, template: TrainState) -> Restored | None:
        """As `restore_latest`, of the best step that can be used."""
        with fail_together(_WHAT):
            restored = self._own.restore_best(_local(template)) if self._own is not None else None
        return self._spread(restored, template)

    def _spread(self, restored: Restored | None, template: TrainState) -> Restored | None:
        if jax.process_count() == 1:
            return restored
        data = broadcast_json(restored and restored.data)
        if data is None:
            return None
        return Restored(broadcast_tree(restored.state if restored else jax.device_get(template)), data)


def _local(template: TrainState) -> TrainState:
    """A template that asks for NumPy arrays where its own are on other processes' devices, too."""
    return template if jax.process_count() == 1 else jax.device_get(template)
