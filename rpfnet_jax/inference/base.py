"""Fusing one pair, or many as they come: `ImageFuser`, which a network and the classical methods implement."""

from __future__ import annotations

import abc
import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from rpfnet_jax.data.color import ColorRange
from rpfnet_jax.data.metadata import Metadata
from rpfnet_jax.data.thermal import Scalings, ThermalScaling
from rpfnet_jax.inference.sources import ImageInput, OutputType, Sources, check_output_type, open_sources, stack_sources

_READERS = 2
_READ_AHEAD = 4
# Errors of a batch that can't be computed. JAX reports that an accelerator's memory is full by RuntimeErrors.
_BATCH_ERRORS = (MemoryError, ValueError, RuntimeError)

# Starts fusing a batch of pairs of one shape, and returns a function that waits for the images.
Compute = Callable[[Sequence[Sources]], Callable[[], list[np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Fused:
    """The result for one pair of `fuse_many`.

    Attributes:
        index: its place among the pairs given.
        pair: the pair as it was given.
        image: the fused image, as `fuse` returns it; None when it failed.
        error: why it failed; None when it did not.
        metadata: those of the visible image's file; `rpfnet_jax.data.write_image` takes them.
    """

    index: int
    pair: Any
    image: np.ndarray | None
    error: Exception | None = None
    metadata: Metadata = Metadata()

    @property
    def picture(self) -> np.ndarray | None:
        """Alias of `image`, its name in version 0.1."""
        return self.image


class ImageFuser(abc.ABC):
    """Fuses registered pairs of images at their own size.

    Attributes:
        color_range: how the fused luminance replaces a visible image's; see `FusionDefaults`.
    """

    color_range: ColorRange = "full"

    @abc.abstractmethod
    def fuse_luminance(self, ir: Float[Any, "b h w 1"], vis_y: Float[Any, "b h w 1"]) -> Float[Any, "b h w 1"]:
        """Fuses a batch of float32 luminances in [0, 1].

        May return while the device still computes; `np.asarray` of the result waits for it.
        """

    def batch_size(self, shape: tuple[int, int]) -> int:
        """Returns how many images of (height, width) are worth fusing at once."""
        del shape
        return 1

    def fuse(
        self,
        ir: ImageInput,
        vis: ImageInput,
        *,
        dtype: OutputType = "uint8",
        ir_scaling: ThermalScaling | str = "full",
        vis_scaling: ThermalScaling | str = "full",
    ) -> Shaped[np.ndarray, "h w *channels"]:
        """Fuses one registered pair at its own size.

        Args:
            ir: infrared image: a path, a PIL image, or an array (H, W) or (H, W, C) with 1 to 4 channels (grey, grey
                and alpha, RGB, RGB and alpha), uint8, uint16 or float in [0, 1], or with a scaling any numbers. Of a
                colour image the luminance is used.
            vis: visible image, likewise, of the same height and width.
            dtype: `uint8`, `uint16`, or `float32` in [0, 1] without rounding.
            ir_scaling: how infrared of more than 8 bits becomes [0, 1]: `full` (the whole range of its dtype),
                `percentile:1,99` or `range:7000,9500`; see `rpfnet_jax.data.ThermalScaling`.
            vis_scaling: likewise for the visible image.

        Returns:
            An array shaped like `vis`: colour in, colour out (fused luminance, VIS's chroma), grey in, grey out; alpha
            stays. A path gives the same result as the array that it holds.

        Raises:
            ImageError: a file can't be read.
            ValueError: sizes differ, or an array's shape, dtype or range is not as above; impossible options.
            MemoryError: the images are too large for the memory that is free; see `Fuser.in_tiles`.

        Warns:
            InputWarning: an image is hardly what was meant; see `rpfnet_jax.data.checks.warn_of_input`.
        """
        check_output_type(dtype)
        sources = open_sources(ir, vis, Scalings.of(ir_scaling, vis_scaling))
        fused = self.fuse_luminance(*stack_sources([sources]))
        return sources.restore(np.asarray(fused)[0, ..., 0], self.color_range, dtype)

    def fuse_many(
        self,
        pairs: Iterable[Any],
        prepare: Callable[[Any], Sources] | None = None,
        *,
        batch_size: int | None = None,
        dtype: OutputType = "uint8",
        ir_scaling: ThermalScaling | str = "full",
        vis_scaling: ThermalScaling | str = "full",
        ahead: int | None = None,
    ) -> Iterator[Fused]:
        """Fuses many pairs as they come, reading ahead in threads while the network computes.

        Consecutive pairs of one size share a batch; give them sorted by size. A pair that can't be read or fused does
        not stop the others. If `pairs` itself raises an exception, what it gave before is fused and handed on first.

        Args:
            pairs: (ir, vis) as for `fuse`, or whatever `prepare` takes; read as needed.
            prepare: opens one pair; called in threads. None: does what `fuse` does.
            batch_size: images per batch; None: as many as are worth it.
            dtype, ir_scaling, vis_scaling: see `fuse`.
            ahead: pairs that may be taken from `pairs` before the result of the one before them is handed on. 0 suits
                a camera, whose next frame would be waited for; None: as many as keep readers and network busy.

        Yields:
            A `Fused` for each pair, in order but for failures, which may come before pairs that were given earlier.

        Raises:
            ValueError: an unknown dtype or scaling, or a scaling beside `prepare`.
        """
        check_output_type(dtype)
        scaling = Scalings.of(ir_scaling, vis_scaling)
        if prepare is None:
            prepare = functools.partial(_open_tuple, scaling)
        elif scaling != Scalings():
            raise ValueError("ir_scaling and vis_scaling have no use beside `prepare`, which opens the pairs")
        if ahead is not None and ahead < 0:
            raise ValueError(f"ahead must not be negative, got {ahead}")

        def compute(batch: Sequence[Sources]) -> Callable[[], list[np.ndarray]]:
            fused = self.fuse_luminance(*stack_sources(batch))
            return lambda: [
                sources.restore(luminance[..., 0], self.color_range, dtype)
                for sources, luminance in zip(batch, np.asarray(fused), strict=True)
            ]

        size = self.batch_size if batch_size is None else lambda shape: batch_size
        return stream(pairs, prepare, compute, size, ahead)


def _open_tuple(scaling: Scalings, pair: tuple[ImageInput, ImageInput]) -> Sources:
    ir, vis = pair
    return open_sources(ir, vis, scaling)


@dataclasses.dataclass(frozen=True)
class _Job:
    index: int
    pair: Any
    sources: Sources


class _Supply:
    """The pairs of a stream, numbered; ends where they end or fail.

    Attributes:
        error: what the pairs raised.
        handed_on: number of results that the stream's caller got.
    """

    def __init__(self, pairs: Iterable[Any], ahead: int | None):
        self.error: Exception | None = None
        self.handed_on = 0
        self._pairs, self._ahead, self._taken = iter(pairs), ahead, 0

    def take(self, most: int) -> Iterator[tuple[int, Any]]:
        """Takes up to `most` pairs, no more than `ahead` allows."""
        for _ in range(most):
            if self.error is not None or self.exhausted():
                return
            try:
                pair = next(self._pairs)
            except StopIteration:
                return
            except Exception as error:
                self.error = error
                return
            self._taken += 1
            yield self._taken - 1, pair

    def exhausted(self) -> bool:
        """Returns whether no pair may be taken before a result is handed on."""
        return self._ahead is not None and self._taken - self.handed_on > self._ahead


def stream(
    pairs: Iterable[Any],
    prepare: Callable[[Any], Sources],
    compute: Compute,
    batch_size: Callable[[tuple[int, int]], int],
    ahead: int | None = None,
) -> Iterator[Fused]:
    """Yields results while later pairs are being read and the next batch is being computed.

    A pair that fails costs only itself, even inside a batch: a batch that fails is computed pair by pair.

    Args:
        pairs: read as needed, never all at once.
        prepare: reads one pair; called in threads.
        compute: starts a batch.
        batch_size: number of images of (height, width) in one batch.
        ahead: see `ImageFuser.fuse_many`.
    """
    supply = _Supply(pairs, ahead)
    with ThreadPoolExecutor(_READERS) as readers:
        for result in _results(_batches(_read(supply, prepare, readers), batch_size), compute):
            supply.handed_on += 1
            yield result
    if supply.error is not None:
        raise supply.error


def _results(batches: Iterator[list[_Job] | Fused | None], compute: Compute) -> Iterator[Fused]:
    """Computes batches, one while the results of the one before are used; None: finish what was begun."""
    running: tuple[list[_Job], Callable[[], list[np.ndarray]]] | None = None
    for item in batches:
        if isinstance(item, Fused):
            yield item
            continue
        started = (item, _start(compute, item)) if item else None
        if running:
            yield from _finish(*running, compute)
            if started and isinstance(started[1], _Failure):
                # Perhaps only for lack of memory beside the batch before.
                started = started[0], _start(compute, started[0])
        running = started
    if running:
        yield from _finish(*running, compute)


def _read(
    supply: _Supply, prepare: Callable[[Any], Sources], readers: ThreadPoolExecutor
) -> Iterator[_Job | Fused | None]:
    """Yields each pair when it is read; None where a result must be handed on before another pair may be taken."""
    pending: collections.deque[tuple[int, Any, Future]] = collections.deque()
    while True:
        for index, pair in supply.take(_READ_AHEAD - len(pending)):
            pending.append((index, pair, readers.submit(prepare, pair)))
        if pending:
            index, pair, future = pending.popleft()
            try:
                yield _Job(index, pair, future.result())
            except Exception as error:
                # Any error: pairs and `prepare` are the caller's, and one of them must not cost the others.
                yield Fused(index, pair, None, error)
        elif supply.exhausted():
            yield None
        else:
            return


def _batches(
    jobs: Iterator[_Job | Fused | None], batch_size: Callable[[tuple[int, int]], int]
) -> Iterator[list[_Job] | Fused | None]:
    batch: list[_Job] = []
    for job in jobs:
        if isinstance(job, Fused):
            yield job
            continue
        if batch and (job is None or job.sources.ir.shape != batch[0].sources.ir.shape):
            yield batch
            batch = []
        if job is None:
            yield None
            continue
        batch.append(job)
        height, width = job.sources.ir.shape
        if len(batch) >= batch_size((height, width)):
            yield batch
            batch = []
    if batch:
        yield batch


@dataclasses.dataclass(frozen=True)
class _Failure:
    """Raises an error of the start of a batch where its results are waited for, like one of the computation."""

    error: Exception

    def __call__(self) -> list[np.ndarray]:
        raise self.error


def _start(compute: Compute, jobs: list[_Job]) -> Callable[[], list[np.ndarray]]:
    try:
        return compute([job.sources for job in jobs])
    except _BATCH_ERRORS as error:
        return _Failure(error)


def _finish(jobs: list[_Job], wait: Callable[[], list[np.ndarray]], compute: Compute) -> Iterator[Fused]:
    try:
        images = wait()
    except _BATCH_ERRORS as error:
        if len(jobs) == 1:
            yield Fused(jobs[0].index, jobs[0].pair, None, error)
            return
        for job in jobs:
            yield from _finish([job], _start(compute, [job]), compute)
        return
    for job, image in zip(jobs, images, strict=True):
        yield Fused(job.index, job.pair, image, metadata=job.sources.metadata)
