"""What is done to a pair on disk before it is fused: depth, size, registration, colour."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rpfnet_jax.data.color import to_uint8
from rpfnet_jax.data.images import read_image, to_gray, write_image, write_png
from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.thermal import ThermalScaling, read_thermal
from rpfnet_jax.files import one_line
from rpfnet_jax.inference.fuser import ImageFuser
from rpfnet_jax.inference.sources import OutputType, Sources, gray, open_pair, sizes
from rpfnet_jax.registration import checkerboard, estimate_homography, resize_to, same_field_of_view, warp_to_visible

Note = Callable[[Pair, str], None]


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Opens a pair of files; a callable for `Fuser.fuse_many`.

    Attributes:
        gray: fuse to grey even where the visible picture has colour.
        scaling: how infrared files of more than 8 bits become [0, 1].
        resize_ir: scale the infrared picture to the visible one's size, if both show the same field of view.
        pad_multiple: extend both to a multiple of this many pixels, for fewer compilations; see `Sources.padded`.
        align: `none`: the pair is registered. `ecc`: find an affine registration by the edges of both pictures. A
            homography, infrared to visible coordinates: apply it.
        overlays: folder for a checkerboard picture of each registered pair, to judge the registration by.
        note: told what was done to a pair.
    """

    gray: bool = False
    scaling: ThermalScaling = ThermalScaling("full")
    resize_ir: bool = False
    pad_multiple: int = 1
    align: str | np.ndarray = "none"
    overlays: Path | None = None
    note: Note = lambda pair, text: None

    def __call__(self, pair: Pair) -> Sources:
        """Raises ImageError, AlignmentError or ValueError for a pair that can't be used."""
        visible = read_image(pair.vis)
        if self.gray:
            visible = to_gray(visible)
        vis_y = gray(visible)
        ir, scaled = read_thermal(pair.ir, self.scaling)
        if not scaled.startswith("8-bit"):
            self.note(pair, f"infrared {scaled}")
        return Sources(self._registered(pair, ir, vis_y), vis_y, visible).padded(self.pad_multiple)

    def _registered(self, pair: Pair, ir: np.ndarray, vis_y: np.ndarray) -> np.ndarray:
        if isinstance(self.align, str) and self.align == "none":
            return self._resized(pair, ir, vis_y) if ir.shape != vis_y.shape else ir
        if isinstance(self.align, str):
            homography, correlation = estimate_homography(ir, vis_y)
            self.note(pair, f"infrared registered by its edges, correlation {correlation:.2f}")
        else:
            homography = self.align
        warped, covered = warp_to_visible(ir, homography, vis_y.shape)
        if not covered.any():
            raise ValueError(f"{pair.ir}: after the registration no pixel of it lies inside {pair.vis}")
        if self.overlays is not None:
            write_png(self.overlays / f"{pair.name}.png", checkerboard(to_uint8(warped), to_uint8(vis_y)))
        # Where the infrared camera saw nothing, the visible picture stands in for it: no edge, no false heat.
        return np.where(covered, warped, vis_y).astype(np.float32)

    def _resized(self, pair: Pair, ir: np.ndarray, vis_y: np.ndarray) -> np.ndarray:
        if not same_field_of_view(ir.shape, vis_y.shape):
            raise ValueError(
                f"{sizes(ir, vis_y)}: different fields of view; register them (--align=ecc, or a homography file)"
            )
        if not self.resize_ir:
            raise ValueError(f"{sizes(ir, vis_y)}; --resize-ir scales the infrared picture if both show the same scene")
        self.note(pair, f"infrared resized from {ir.shape[0]}x{ir.shape[1]}")
        return resize_to(ir, vis_y.shape)


# Pictures that may wait to be written before fusing pauses.
_WAITING = 8


class FileResult(NamedTuple):
    """What became of a pair.

    Attributes:
        pair: as it was given.
        reason: why it could not be fused, in one line; None: it was.
    """

    pair: Pair
    reason: str | None


def fuse_files(
    net: ImageFuser,
    targets: Mapping[Pair, Path],
    prepare: Callable[[Pair], Sources] = open_pair,
    *,
    batch_size: int | None = None,
    dtype: OutputType = "uint8",
) -> Iterator[FileResult]:
    """Fuses pairs and writes each picture, atomically, while the next ones are being fused.

    Args:
        net: what fuses.
        targets: pair -> file, with the suffix that `data.writing.SUFFIXES` has for `dtype`; sorted by size, see
            `fuse_many`.
        prepare: opens one pair; called in threads.
        batch_size: pictures per batch; None: as many as are worth it.
        dtype: of the files.

    Yields:
        An `FileResult` for each pair. Of the last pictures some are still on their way to the disk; all are there when
        the iterator ends.

    Raises:
        OSError: a picture can't be written; the message names it.
    """
    results = net.fuse_many(targets, prepare, batch_size=batch_size, dtype=dtype)
    with _Writer() as writer:
        for result in results:
            if result.error is not None:
                yield FileResult(result.pair, one_line(result.error))
            elif result.image is not None:
                writer.submit(targets[result.pair], result.image)
                yield FileResult(result.pair, None)


class _Writer:
    """Encodes and writes in a thread of its own; a write that fails is raised at the next chance."""

    def __enter__(self) -> _Writer:
        self._pool = ThreadPoolExecutor(1)
        self._pending: list[Future] = []
        return self

    def submit(self, path: Path, picture: np.ndarray) -> None:
        while len(self._pending) >= _WAITING or (self._pending and self._pending[0].done()):
            self._pending.pop(0).result()
        self._pending.append(self._pool.submit(write_image, path, picture))

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        if error[0] is None:
            for future in self._pending:
                future.result()
