"""Several processes that train one network together; see docs/multi-host.md.

Each process has its own devices and makes the same calls in the same order. Process 0, the main process, alone writes
the run's folder, reports, and validates. The functions here are collective, `joined` and `is_main` excepted: every
process calls them, and with a single process they cost nothing.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rpfnet_jax.files import one_line
from rpfnet_jax.training.checkpoint import Checkpoints, Restored, differing_fields
from rpfnet_jax.training.state import TrainState

T = TypeVar("T")

# How long a process waits at the end for others that may be gone.
_SHUTDOWN_SECONDS = 10
# Marks an exception that the other processes have been told about.
_SHARED_FAILURE = "The other processes of this run stop as well."


class PeerError(RuntimeError):
    """Another process failed and reports the cause."""


@contextlib.contextmanager
def joined(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> Iterator[None]:
    """Joins this process to others, before JAX looks for devices; only the main process shows warnings.

    Args:
        coordinator: HOST:PORT, with a free port, on the machine of process 0; `auto`: everything is detected (SLURM,
            Open MPI, Kubernetes, Cloud TPU). None: not joined, unless the caller has done so itself.
        processes: with HOST:PORT: how many there are.
        process_id: with HOST:PORT: number of this one, from 0.

    Raises:
        ValueError: fields that contradict each other, or `auto` detects nothing.
        OSError: JAX can't join. (Without an answer for 5 minutes JAX ends the process.)
    """
    automatic = coordinator == "auto"
    for name, value in {"processes": processes, "process_id": process_id}.items():
        if (value is not None) != (coordinator is not None and not automatic):
            raise ValueError(f"distributed.{name} and distributed.coordinator=HOST:PORT need each other")
    leaving = coordinator is not None and not jax.distributed.is_initialized()
    if leaving:
        try:
            jax.distributed.initialize(
                None if automatic else coordinator,
                processes,
                process_id,
                cluster_detection_method=None if automatic else "deactivate",
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            )
        except RuntimeError as error:
            raise OSError(f"this process could not join the others: {one_line(error)}") from error
        except ValueError as error:
            if not automatic:
                raise
            raise ValueError(
                "distributed.coordinator=auto found no SLURM, Open MPI, Kubernetes or Cloud TPU that started this "
                f"process; give HOST:PORT, distributed.processes and distributed.process_id ({error})"
            ) from error
    with warnings.catch_warnings():
        if not is_main():
            warnings.simplefilter("ignore")
        try:
            yield
        except BaseException as error:
            # Leaving waits for the others: unless they stop as well, JAX aborts before the error is shown.
            leaving &= isinstance(error, PeerError) or _SHARED_FAILURE in getattr(error, "__notes__", ())
            raise
        finally:
            if leaving:
                jax.distributed.shutdown()


def is_main() -> bool:
    """Returns whether this is process 0."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Returns whether the flag is set in any process."""
    return bool(process_allgather(np.array(flag)).any())


@contextlib.contextmanager
def fail_together(what: str) -> Iterator[None]:
    """Makes a block succeed in every process or fail in every process; within it no process may wait for another.

    Raises:
        PeerError: it failed in another process and not in this one.
    """
    try:
        yield
    except BaseException as error:
        if any_process(True) and jax.process_count() > 1:
            error.add_note(_SHARED_FAILURE)
        raise
    if (failed := process_allgather(np.array(False))).any():
        raise PeerError(f"process {np.argmax(failed)} failed ({what}) and reports the cause; this one stops too")


def main_first(what: str, function: Callable[[], T]) -> T:
    """Calls the function in the main process and then in the others, which may share a folder with it."""
    with fail_together(what):
        result = [function()] if is_main() else []
    with fail_together(what):
        return result[0] if result else function()


def broadcast_json(value: T) -> T:
    """Returns the main process's JSON-able value."""
    if jax.process_count() == 1:
        return value
    encoded = np.frombuffer(json.dumps(value).encode() if is_main() else b"", np.uint8)
    buffer = np.zeros(int(broadcast_one_to_all(np.array(len(encoded), np.int32))), np.uint8)
    buffer[: len(encoded)] = encoded
    return json.loads(broadcast_one_to_all(buffer).tobytes())


def check_agreement(facts: dict[str, Any]) -> None:
    """Raises ValueError, listing how, where JSON-able facts (possibly nested) differ from the main process's."""
    expected = broadcast_json(facts)
    with fail_together("comparing the processes"):
        if differing := differing_fields(expected, facts):
            head = "this process has another configuration or other images than process 0:"
            raise ValueError("\n".join([head, *differing]))


class Consensus:
    """Lets all processes stop after the same step when any of them asks to.

    Fetching an answer waits for the step before it. So each call fetches the answer to the previous call, and the
    devices always have a step to work on.
    """

    def __init__(self) -> None:
        self._previous: Any = False

    def __call__(self, stop: bool) -> bool:
        """Returns whether to stop now; called once after every step."""
        if jax.process_count() == 1:
            return stop
        sharding = NamedSharding(Mesh(np.array(jax.devices()), ("all",)), PartitionSpec("all"))
        votes = jax.make_array_from_process_local_data(sharding, np.full(jax.local_device_count(), stop))
        previous, self._previous = self._previous, _any(votes)
        return bool(previous)


@jax.jit
def _any(votes: jax.Array) -> jax.Array:
    return votes.any()


class SharedCheckpoints(contextlib.AbstractContextManager):
    """The main process's `Checkpoints`: every process makes each call, and an error there is raised in all of them.

    Every device holds the whole state, so that the main process can write it alone and the others need not see the
    folder. Arguments and errors are those of `Checkpoints`; the other processes raise `PeerError`.
    """

    def __init__(self, *arguments: Any):
        with fail_together("checkpoints"):
            self._own = Checkpoints(*arguments) if is_main() else None

    def __exit__(self, *error: Any) -> None:
        if self._own is not None:
            self._own.__exit__(*error)

    def save(self, state: TrainState, data: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        with fail_together("checkpoints"):
            if self._own is not None:
                self._own.save(state, data, metrics)

    def restore_latest(self, template: TrainState) -> Restored | None:
        return self._restore(Checkpoints.restore_latest, template)

    def restore_best(self, template: TrainState) -> Restored | None:
        return self._restore(Checkpoints.restore_best, template)

    def _restore(self, read: Callable[[Checkpoints, Any], Restored | None], template: TrainState) -> Restored | None:
        template = jax.device_get(template)
        with fail_together("checkpoints"):
            restored = read(self._own, template) if self._own is not None else None
        data = broadcast_json(restored and restored.data)
        return None if data is None else Restored(broadcast_one_to_all(restored.state if restored else template), data)
