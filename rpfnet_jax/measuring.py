"""Measuring fused files of any method against their sources, in several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from tqdm import tqdm

from rpfnet_jax.data.pairs import Pair, Triple, check_triples, refuse_smaller
from rpfnet_jax.data.thermal import read_levels
from rpfnet_jax.metrics import MIN_SIZE, measure, to_gray8
from rpfnet_jax.runtime import available_cores, on_interrupt, prepare_process

# Two processes on two cores take 3 s to start, in which one measures 5 images of 640x480: from 10 images on they gain.
_WORKERS_PAY_FROM = 16


def workers_for(count: int) -> int:
    """Returns how many processes should measure so many triples: one per core, or 1 where starting them costs more."""
    return available_cores() if count >= _WORKERS_PAY_FROM else 1


def measure_triples(triples: Sequence[Triple], workers: int = 1, progress: bool = False) -> dict[str, dict[str, float]]:
    """Measures fused images against their sources; a worker holds one triple in memory at a time.

    Args:
        triples: see `rpfnet_jax.data.pairs.find_triples`; their names differ.
        workers: 1 measures in this process. More are new processes, each of which first imports the package; a script
            that asks for them needs `if __name__ == "__main__":`. The values don't depend on it.
        progress: show a progress bar.

    Returns:
        Name -> row of `rpfnet_jax.metrics.measure`, in the order of `triples`.

    Raises:
        PairError: files are unreadable, sizes differ or are too small, all of them named; nothing was measured.
    """
    check_triples_measurable(triples)
    with _mapper(min(workers, len(triples))) as mapped:
        rows = tqdm(mapped(measure_triple, triples), total=len(triples), unit="image", disable=not progress)
        return {triple.name: row for triple, row in zip(triples, rows, strict=True)}


def check_triples_measurable(triples: Sequence[Triple]) -> None:
    """Raises PairError when files are unreadable, sizes differ or are too small to be measured; all are named."""
    sizes = check_triples(triples)
    refuse_smaller(
        [triple.fused for triple in triples], sizes, MIN_SIZE, f"the {MIN_SIZE}x{MIN_SIZE} that the metrics need"
    )


def measure_triple(triple: Triple) -> dict[str, float]:
    """Returns the row of one triple; colour images are scored on their grey conversion."""
    return measure(*(to_gray8(image) for image in (read_levels(triple.fused), *read_sources(triple))))


def read_sources(pair: Pair | Triple) -> tuple[np.ndarray, np.ndarray]:
    """Reads the infrared and the visible image in 8 bits, scaled as the pair says."""
    return read_levels(pair.ir, pair.scaling.ir), read_levels(pair.vis, pair.scaling.vis)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable]:
    if workers <= 1:
        yield map
        return
    # Not forked: the threads that JAX may have started do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=prepare_process) as pool:

        def start(*work: Any) -> Iterator[Any]:
            # The terminal sends Ctrl-C to all processes; the new ones inherit that they ignore it, and need no handler
            # before they have imported anything.
            with on_interrupt(signal.SIG_IGN):
                return pool.map(*work)

        try:
            yield start
        except BaseException:
            # Otherwise the whole queue would be measured before Ctrl-C or an error gets through.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
