"""Several processes that train one network together, in general one per machine.

What decides the result is the same in each of them: the state is on every device, and every process knows the order of
all patches and loads its share. What is done once (checkpoints, TensorBoard, validation, printing) is done by process
0, the main one. Where nothing was joined there is one process, which is the main one, and all of this costs nothing.

A process that fails alone would leave the others waiting for it. So what may fail in one of them is done within
`together`, which makes it fail in all.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from rpfnet_jax.failure import one_line
from rpfnet_jax.training.checkpoint import differing_fields

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


def anywhere(flag: bool) -> bool:
    """Whether the flag is set in any process; each must ask."""
    return flag if jax.process_count() == 1 else bool(_everywhere(flag).any())


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """A block that each process enters and that either succeeds in all of them or fails in all of them.

    Within it no process may wait for another.

    Raises:
        PeerError: it failed elsewhere and not here.
    """
    try:
        yield
    except BaseException as error:
        if anywhere(True) and jax.process_count() > 1:
            error.add_note(_AGREED)
        raise
    if jax.process_count() > 1 and (failed := _everywhere(False)).any():
        raise PeerError(f"process {int(np.argmax(failed))} failed ({what}) and says why; so this one stops, too")


def _everywhere(flag: bool) -> np.ndarray:
    """The flags of all processes, in their order."""
    return multihost_utils.process_allgather(np.array(flag)).reshape(-1)


def main_first(what: str, function: Callable[[], T]) -> T:
    """Calls the function in the main process, and in the others when it is done there: they may share a folder."""
    with together(what):
        result = [function()] if is_main() else []
    with together(what):
        return result[0] if result else function()


def from_main(tree: T) -> T:
    """The main process's arrays, as NumPy arrays, in every process; shapes and dtypes must be the same in each."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def json_from_main(value: T) -> T:
    """The main process's JSON-able value in every process."""
    if jax.process_count() == 1:
        return value
    encoded = np.frombuffer(json.dumps(value).encode(), np.uint8) if is_main() else np.zeros(0, np.uint8)
    length = int(from_main(np.array(len(encoded), np.int32)))
    buffer = np.zeros(length, np.uint8)
    buffer[: len(encoded)] = encoded
    return json.loads(from_main(buffer).tobytes())


def check_agreement(facts: dict[str, Any]) -> None:
    """Compares JSON-able facts, possibly nested, on which the processes of a run must agree.

    Raises:
        ValueError: those of this process are not the main one's; the message lists how they differ.
        PeerError: those of another are not.
    """
    theirs = json_from_main(facts)
    with together("comparing the processes"):
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
