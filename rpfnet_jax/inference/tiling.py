"""Pictures that do not fit: overlapping tiles of one size, blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from rpfnet_jax.inference.base import PictureFuser
from rpfnet_jax.model import MIN_SIDE

FuseTile = Callable[[np.ndarray, np.ndarray], np.ndarray]


class TiledFuser(PictureFuser):
    """A network applied tile by tile, for pictures that do not fit into memory as a whole.

    Close to what the network makes of the whole picture and not equal: the FDFM transforms each tile by itself. Needs
    statistics that do not depend on the tile, so `running` mode.

    Args:
        net: a `Fuser` in `running` mode.
        tile: side of the tiles in pixels; a picture with a shorter side has tiles as long as that.
        overlap: pixels that neighbours share, less than half a tile.

    Raises:
        ValueError: `net` has another norm mode, the tile is smaller than 16, or the overlap not in [0, tile / 2).
    """

    def __init__(self, net: Any, tile: int, overlap: int):
        if net.defaults.norm != "running":
            raise ValueError(f"tiles need norm=running: {net.defaults.norm} takes statistics of the whole picture")
        if tile < MIN_SIDE:
            raise ValueError(f"tile must be at least {MIN_SIDE}, got {tile}")
        if not 0 <= overlap < tile / 2:
            raise ValueError(f"overlap must be at least 0 and less than half of tile={tile}, got {overlap}")
        self.net, self.tile, self.overlap = net, tile, overlap
        self.color_range = net.color_range

    def start(self, ir: Shaped[np.ndarray, "b h w"], vis_y: Shaped[np.ndarray, "b h w"]) -> np.ndarray:
        """See `PictureFuser.start`; does not return before the work is done."""

        def fuse_whole(whole_ir: np.ndarray, whole_vis: np.ndarray) -> np.ndarray:
            exposure = self.net.measure(whole_ir[None, ..., None], whole_vis[None, ..., None])

            def fuse(ir: np.ndarray, vis_y: np.ndarray) -> np.ndarray:
                return np.asarray(self.net.start(ir[None], vis_y[None], exposure))[0]

            return fuse_in_tiles(fuse, whole_ir, whole_vis, self.tile, self.overlap)

        return np.stack([fuse_whole(*pair) for pair in zip(ir, vis_y, strict=True)])


def fuse_in_tiles(
    fuse: FuseTile, ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"], tile: int, overlap: int
) -> Float32[np.ndarray, "h w"]:
    """Fuses tile by tile; all tiles have one size, so that one function is compiled.

    Where tiles overlap, their results are mixed with weights that fall linearly towards their edges; the outer edges of
    the picture keep full weight.

    Args:
        fuse: fuses one tile, (H, W) float32 each.
        ir: infrared luminance in [0, 1].
        vis_y: luminance of the visible picture, same size.
        tile: side of the tiles in pixels.
        overlap: pixels that neighbours share, less than half a tile.
    """
    height, width = ir.shape
    sides = min(tile, height), min(tile, width)
    fused = np.zeros((height, width), np.float32)
    # Strips of one row of tiles, so that no second picture-sized array of weights is needed.
    row_sum = np.zeros(height, np.float32)
    for top, row_ramp in _places(height, sides[0], overlap):
        row_sum[top : top + sides[0]] += row_ramp
    for top, row_ramp in _places(height, sides[0], overlap):
        rows = slice(top, top + sides[0])
        strip = np.zeros((sides[0], width), np.float32)
        column_sum = np.zeros(width, np.float32)
        for left, column_ramp in _places(width, sides[1], overlap):
            columns = slice(left, left + sides[1])
            strip[:, columns] += fuse(ir[rows, columns], vis_y[rows, columns]) * column_ramp
            column_sum[columns] += column_ramp
        strip /= column_sum
        fused[rows] += strip * (row_ramp / row_sum[rows])[:, None]
    return fused


def _places(length: int, side: int, overlap: int) -> Iterator[tuple[int, np.ndarray]]:
    """Start of each tile along one axis, and its weights."""
    step = max(side - overlap, 1)
    count = 1 if side >= length else -(-(length - side) // step) + 1
    # Spread evenly, so that no two tiles overlap much more than the others.
    for start in np.rint(np.linspace(0, length - side, count)).astype(int):
        distance = np.arange(side) + 0.5
        ramp = np.ones(side)
        if start > 0:
            ramp = np.minimum(ramp, distance / max(overlap, 1))
        if start + side < length:
            ramp = np.minimum(ramp, distance[::-1] / max(overlap, 1))
        yield int(start), ramp.astype(np.float32)
