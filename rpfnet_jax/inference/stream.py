"""Many pairs one after another: read ahead, grouped by shape, batched, handed on as they come."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from rpfnet_jax.inference.sources import Sources

READERS = 2

# Of a batch that can't be computed; JAX reports that an accelerator's memory is full by RuntimeErrors.
_FAILURES = (MemoryError, ValueError, RuntimeError)


@dataclasses.dataclass(frozen=True)
class Fused:
    """The result for one pair of `fuse_many`.

    Attributes:
        index: its place among the pairs given.
        pair: as it was given.
        image: what `Fuser.fuse` would return; None when it failed.
        error: why it failed; None when it did not.
    """

    index: int
    pair: Any
    image: np.ndarray | None
    error: Exception | None = None


@dataclasses.dataclass(frozen=True)
class Job:
    """A pair on its way."""

    index: int
    pair: Any
    sources: Sources


Compute = Callable[[Sequence[Job]], Callable[[], list[np.ndarray]]]


def stream(
    pairs: Iterable[Any],
    prepare: Callable[[Any], Sources],
    compute: Compute,
    batch_size: Callable[[tuple[int, int]], int],
    ahead: int = 4,
) -> Iterator[Fused]:
    """Yields results while later pairs are being read and the next batch is being computed.

    Consecutive pairs of one shape share a batch: pairs that come sorted by shape fill theirs. A pair that fails costs
    itself only, even inside a batch.

    Args:
        pairs: read as needed, never all at once.
        prepare: reads one pair; runs in threads.
        compute: starts a batch of one shape and returns a function that waits for its pictures.
        batch_size: pictures of (height, width) that go into one batch.
        ahead: pairs read beyond the current batch.
    """
    with ThreadPoolExecutor(READERS) as readers:
        running: tuple[list[Job], Callable[[], list[np.ndarray]]] | None = None
        for item in _batches(_read(enumerate(pairs), prepare, readers, ahead), batch_size):
            if isinstance(item, Fused):
                yield item
                continue
            wait = _started(compute, item)
            if running:
                yield from _finished(*running, compute)
                if isinstance(wait, _Failure):
                    # Perhaps only for lack of room beside the batch before.
                    wait = _started(compute, item)
            running = item, wait
        if running:
            yield from _finished(*running, compute)


def _read(
    pairs: Iterator[tuple[int, Any]], prepare: Callable[[Any], Sources], readers: ThreadPoolExecutor, ahead: int
) -> Iterator[Job | Fused]:
    pending: collections.deque[tuple[int, Any, Future]] = collections.deque()
    while True:
        for index, pair in itertools.islice(pairs, ahead - len(pending)):
            pending.append((index, pair, readers.submit(prepare, pair)))
        if not pending:
            return
        index, pair, future = pending.popleft()
        try:
            yield Job(index, pair, future.result())
        except Exception as error:
            # Anything: pairs and how they are prepared are the caller's, and one of them must not cost the others.
            yield Fused(index, pair, None, error)


def _batches(jobs: Iterator[Job | Fused], batch_size: Callable[[tuple[int, int]], int]) -> Iterator[list[Job] | Fused]:
    batch: list[Job] = []
    for job in jobs:
        if isinstance(job, Fused):
            yield job
            continue
        if batch and job.sources.ir.shape != batch[0].sources.ir.shape:
            yield batch
            batch = []
        batch.append(job)
        height, width = job.sources.ir.shape
        if len(batch) >= batch_size((height, width)):
            yield batch
            batch = []
    if batch:
        yield batch


@dataclasses.dataclass(frozen=True)
class _Failure:
    """Raises, where the results are waited for, what went wrong before, like an error of the computation itself."""

    error: Exception

    def __call__(self) -> list[np.ndarray]:
        raise self.error


def _started(compute: Compute, jobs: list[Job]) -> Callable[[], list[np.ndarray]]:
    try:
        return compute(jobs)
    except _FAILURES as error:
        return _Failure(error)


def _finished(jobs: list[Job], wait: Callable[[], list[np.ndarray]], compute: Compute) -> Iterator[Fused]:
    try:
        pictures = wait()
    except _FAILURES as error:
        if len(jobs) == 1:
            yield Fused(jobs[0].index, jobs[0].pair, None, error)
            return
        for job in jobs:
            yield from _finished([job], _started(compute, [job]), compute)
        return
    for job, picture in zip(jobs, pictures, strict=True):
        yield Fused(job.index, job.pair, picture)
