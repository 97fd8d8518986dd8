"""Measuring fused pictures that are files already, whoever made them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from tqdm import tqdm

from rpfnet_jax.allocator import keep_freed_memory
from rpfnet_jax.cores import available_cores
from rpfnet_jax.data.checks import refuse_smaller
from rpfnet_jax.data.images import read_image
from rpfnet_jax.data.triples import Triple, check_triples
from rpfnet_jax.metrics import MIN_SIZE, measure, to_gray8

# Two processes on two cores take 3 s to start, in which one measures 5 pictures of 640x480: from 10 on they gain.
_WORKERS_PAY_FROM = 16


def workers_for(count: int) -> int:
    """How many processes to measure so many triples with: one per core, or this one alone where starting costs more."""
    return available_cores() if count >= _WORKERS_PAY_FROM else 1


def measure_triples(triples: Sequence[Triple], workers: int = 1, progress: bool = False) -> dict[str, dict[str, float]]:
    """Measures fused pictures against their sources; a worker holds one triple in memory at a time.

    Args:
        triples: from `rpfnet_jax.data.triples.find_triples`; their names differ.
        workers: 1 measures in this process. More are processes of their own, started afresh: each imports the package
            first, and a script that asks for them needs `if __name__ == "__main__":`. The values don't depend on it.
        progress: show a progress bar.

    Returns:
        Name -> row of `rpfnet_jax.metrics.measure`, in the order of `triples`.

    Raises:
        PairError: files are unreadable, sizes differ or are too small, all of them named; nothing was measured.
    """
    check_triples_measurable(triples)
    with _mapper(min(workers, len(triples))) as mapped:
        rows = tqdm(mapped(measure_triple, triples), total=len(triples), unit="picture", disable=not progress)
        return {triple.name: row for triple, row in zip(triples, rows, strict=True)}


def check_triples_measurable(triples: Sequence[Triple]) -> None:
    """Raises PairError when files are unreadable, sizes differ or are too small to be measured; all are named."""
    sizes = check_triples(triples)
    refuse_smaller(
        [triple.fused for triple in triples], sizes, MIN_SIZE, f"the {MIN_SIZE}x{MIN_SIZE} that the metrics need"
    )


def measure_triple(triple: Triple) -> dict[str, float]:
    """The row of one triple; colour pictures are scored on their grey conversion."""
    return measure(*(to_gray8(read_image(path)) for path in (triple.fused, triple.ir, triple.vis)))


@contextmanager
def _mapper(workers: int) -> Iterator[Callable]:
    if workers <= 1:
        yield map
        return
    # Not forked: the threads that JAX may have started do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=keep_freed_memory) as pool:
        try:
            yield pool.map
        except BaseException:
            # What waits in the queue would otherwise be measured before Ctrl-C or an error gets through.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
