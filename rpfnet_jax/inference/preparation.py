"""What is done to a pair on disk before it is fused: depth, size, registration, colour."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rpfnet_jax.data.alignment import (
    checkerboard,
    estimate_homography,
    resize_to,
    same_field_of_view,
    warp_to_visible,
)
from rpfnet_jax.data.color import to_uint8
from rpfnet_jax.data.images import read_image, to_gray, write_png
from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.thermal import ThermalScaling, read_thermal
from rpfnet_jax.inference.pictures import Sources, gray, sizes

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
