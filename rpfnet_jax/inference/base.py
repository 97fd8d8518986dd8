"""What every way of fusing pictures offers: one pair, or many as they come."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from rpfnet_jax.data.color import ColorRange
from rpfnet_jax.inference.pictures import OutputType, Picture, Sources, check_output_type, open_sources
from rpfnet_jax.inference.stream import Fused, Job, stream


class PictureFuser(abc.ABC):
    """Fuses luminances, and knows how to make pictures of them.

    Attributes:
        color_range: how the fused luminance takes the place of a visible picture's; see `FusionDefaults`.
    """

    color_range: ColorRange = "full"

    @abc.abstractmethod
    def start(self, ir: Shaped[np.ndarray, "b h w"], vis_y: Shaped[np.ndarray, "b h w"]) -> Any:
        """Starts fusing a batch of float32 luminances in [0, 1]; `np.asarray` waits for the result, (B, H, W)."""

    def batch_size(self, shape: tuple[int, int]) -> int:
        """Pictures of (height, width) that are worth fusing at once."""
        del shape
        return 1

    def fuse(self, ir: Picture, vis: Picture, *, dtype: OutputType = "uint8") -> Shaped[np.ndarray, "h w *channels"]:
        """Fuses one registered pair at its own size.

        Args:
            ir: infrared picture: a path, a PIL image, or an array (H, W), (H, W, 1) or (H, W, 3), uint8, uint16 or
                float in [0, 1]. Of a colour picture the luminance is used.
            vis: visible picture, likewise, of the same height and width.
            dtype: `uint8`, `uint16`, or `float32` in [0, 1] without rounding.

        Returns:
            An array shaped like `vis`: colour in, colour out (fused luminance, VIS's chroma), grey in, grey out.

        Raises:
            ImageError: a file can't be read.
            ValueError: sizes differ, or an array's shape, dtype or range is not as above; impossible options.
            MemoryError: the pictures are too large for the memory that is free; `Fuser.in_tiles` is for them.
        """
        check_output_type(dtype)
        return self._compute([Job(0, None, open_sources(ir, vis))], dtype)()[0]

    def fuse_many(
        self,
        pairs: Iterable[Any],
        prepare: Callable[[Any], Sources] = lambda pair: open_sources(*pair),
        *,
        batch_size: int | None = None,
        dtype: OutputType = "uint8",
    ) -> Iterator[Fused]:
        """Fuses many pairs as they come, reading ahead in threads while the network computes.

        Consecutive pairs of one size share a batch; give them sorted by size. A pair that can't be read or fused does
        not stop the others.

        Args:
            pairs: (ir, vis) as for `fuse`, or whatever `prepare` takes; read as needed.
            prepare: opens one pair; called in threads.
            batch_size: pictures per batch; None: as many as are worth it.
            dtype: see `fuse`.

        Yields:
            A `Fused` for each pair, in order but for failures, which may come before pairs that were given earlier.
        """
        check_output_type(dtype)

        def size(shape: tuple[int, int]) -> int:
            return self.batch_size(shape) if batch_size is None else batch_size

        return stream(pairs, prepare, lambda jobs: self._compute(jobs, dtype), size)

    def _compute(self, jobs: Sequence[Job], dtype: OutputType) -> Callable[[], list[np.ndarray]]:
        """Starts a batch; what is returned waits for it and gives the pictures."""
        started = self.start(*(np.stack([getattr(job.sources, side) for job in jobs]) for side in ("ir", "vis_y")))

        def wait() -> list[np.ndarray]:
            pictures = zip(jobs, np.asarray(started), strict=True)
            return [job.sources.restore(picture, self.color_range, dtype) for job, picture in pictures]

        return wait
