"""From pairs of files to fused files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.writing import write_picture
from rpfnet_jax.failure import one_line
from rpfnet_jax.inference.base import PictureFuser
from rpfnet_jax.inference.pictures import OutputType, Sources, open_pair

# Pictures that may wait to be written before fusing pauses.
_WAITING = 8


class Outcome(NamedTuple):
    """What became of a pair.

    Attributes:
        pair: as it was given.
        reason: why it could not be fused, in one line; None: it was.
    """

    pair: Pair
    reason: str | None


def fuse_files(
    net: PictureFuser,
    targets: Mapping[Pair, Path],
    prepare: Callable[[Pair], Sources] = open_pair,
    *,
    batch_size: int | None = None,
    dtype: OutputType = "uint8",
) -> Iterator[Outcome]:
    """Fuses pairs and writes each picture, atomically, while the next ones are being fused.

    Args:
        net: what fuses.
        targets: pair -> file, with the suffix that `data.writing.SUFFIXES` has for `dtype`; sorted by size, see
            `fuse_many`.
        prepare: opens one pair; called in threads.
        batch_size: pictures per batch; None: as many as are worth it.
        dtype: of the files.

    Yields:
        An `Outcome` for each pair. Of the last pictures some are still on their way to the disk; all are there when
        the iterator ends.

    Raises:
        OSError: a picture can't be written; the message names it.
    """
    results = net.fuse_many(targets, prepare, batch_size=batch_size, dtype=dtype)
    with _Writer() as writer:
        for result in results:
            if result.error is not None:
                yield Outcome(result.pair, one_line(result.error))
            elif result.picture is not None:
                writer.submit(targets[result.pair], result.picture)
                yield Outcome(result.pair, None)


class _Writer:
    """Encodes and writes in a thread of its own; a write that fails is raised at the next chance."""

    def __enter__(self) -> _Writer:
        self._pool = ThreadPoolExecutor(1)
        self._pending: list[Future] = []
        return self

    def submit(self, path: Path, picture: np.ndarray) -> None:
        while len(self._pending) >= _WAITING or (self._pending and self._pending[0].done()):
            self._pending.pop(0).result()
        self._pending.append(self._pool.submit(write_picture, path, picture))

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        if error[0] is None:
            for future in self._pending:
                future.result()
