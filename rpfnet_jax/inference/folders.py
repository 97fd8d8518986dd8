"""Pairs of files: depth, size and registration before they are fused, and the files that are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rpfnet_jax.data.color import to_uint8
from rpfnet_jax.data.images import read_stored, write_image, write_png
from rpfnet_jax.data.metadata import Metadata
from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.pixels import to_gray
from rpfnet_jax.data.thermal import Scalings
from rpfnet_jax.files import one_line
from rpfnet_jax.inference.base import ImageFuser
from rpfnet_jax.inference.sources import OutputType, Sources, open_infrared, open_pair, open_visible, sizes
from rpfnet_jax.registration import checkerboard, estimate_homography, resize_to, same_field_of_view, warp_to_visible

# Images that may wait to be written before fusing pauses.
_MAX_WAITING = 8


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Opens a pair of files; a callable for `Fuser.fuse_many`.

    Attributes:
        gray: fuse to grey even where the visible image has colour.
        scaling: how images of more than 8 bits become [0, 1].
        metadata: whether the result takes over the metadata of the visible image.
        resize_ir: scale the infrared image to the visible one's size, if both show the same field of view.
        align: `none`: the pair is registered. `ecc`: find an affine registration by the edges of both images. A
            homography, infrared to visible coordinates: apply it.
        overlays: folder for a checkerboard image of each registered pair, to judge the registration by.
        note: called with the pair and a line of text for each change to it.
    """

    gray: bool = False
    scaling: Scalings = Scalings()
    metadata: bool = True
    resize_ir: bool = False
    align: str | np.ndarray = "none"
    overlays: Path | None = None
    note: Callable[[Pair, str], None] = lambda pair, text: None

    def __call__(self, pair: Pair) -> Sources:
        """Reads and prepares a pair; raises ImageError, AlignmentError or ValueError where it can't be used."""
        visible = read_stored(pair.vis)
        if self.gray:
            visible = dataclasses.replace(visible, pixels=to_gray(visible.pixels))
        if not self.metadata:
            visible = dataclasses.replace(visible, metadata=Metadata())
        parts = open_visible(visible, self.scaling.vis)
        infrared = read_stored(pair.ir)
        ir, note = open_infrared(infrared, self.scaling.ir)
        if infrared.pixels.dtype != np.uint8:
            self.note(pair, f"infrared {note}")
        return Sources(self._registered(pair, ir, parts["vis_y"]), **parts)

    def _registered(self, pair: Pair, ir: np.ndarray, vis_y: np.ndarray) -> np.ndarray:
        if isinstance(self.align, str) and self.align == "none":
            return ir if ir.shape == vis_y.shape else self._resized(pair, ir, vis_y)
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
        # Where the infrared camera saw nothing, the visible image stands in for it: no edge, no false heat.
        return np.where(covered, warped, vis_y).astype(np.float32)

    def _resized(self, pair: Pair, ir: np.ndarray, vis_y: np.ndarray) -> np.ndarray:
        if not same_field_of_view(ir.shape, vis_y.shape):
            raise ValueError(
                f"{sizes(ir, vis_y)}: different fields of view; register them (--align=ecc, or a homography file)"
            )
        if not self.resize_ir:
            raise ValueError(f"{sizes(ir, vis_y)}; --resize-ir scales the infrared image if both show the same scene")
        self.note(pair, f"infrared resized from {ir.shape[0]}x{ir.shape[1]}")
        return resize_to(ir, vis_y.shape)


class FileResult(NamedTuple):
    """The result for a pair of files.

    Attributes:
        pair: the pair as it was given.
        reason: why it could not be fused, in one line; None where it was.
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
    """Fuses pairs and writes each image, atomically, while the next ones are being fused.

    Args:
        net: the network or another method.
        targets: pair -> file, with the suffix that `data.images.SUFFIXES` has for `dtype`; sorted by size, see
            `ImageFuser.fuse_many`, which has the other arguments.

    Yields:
        A `FileResult` for each pair. The last images may still be on their way to the disk; all are written when the
        iterator ends.

    Raises:
        OSError: an image can't be written; the message names it.
    """
    results = net.fuse_many(targets, prepare, batch_size=batch_size, dtype=dtype)
    waiting: list[Future] = []
    with ThreadPoolExecutor(1) as writer:
        for result in results:
            if result.image is not None:
                # A write that failed is raised here, before more images are fused.
                while len(waiting) >= _MAX_WAITING or (waiting and waiting[0].done()):
                    waiting.pop(0).result()
                waiting.append(writer.submit(write_image, targets[result.pair], result.image, result.metadata))
            yield FileResult(result.pair, None if result.error is None else one_line(result.error))
    for write in waiting:
        write.result()
