"""Fusing an image tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Float32


def fuse_in_tiles(
    fuse: Callable[[Iterable[tuple[np.ndarray, np.ndarray]]], Iterator[np.ndarray]],
    ir: Float32[np.ndarray, "h w"],
    vis_y: Float32[np.ndarray, "h w"],
    tile: int,
    overlap: int,
) -> Float32[np.ndarray, "h w"]:
    """Fuses an image tile by tile; all tiles have one size, so that one function is compiled.

    Where tiles overlap, their results are mixed with weights that fall linearly towards their edges; the outer edges of
    the image keep full weight.

    Args:
        fuse: fuses tiles, each infrared and visible, in the order given; may take several before it yields.
        ir: infrared luminance in [0, 1].
        vis_y: luminance of the visible image.
        tile: side of the tiles in pixels; an image with a shorter side has tiles as long as that.
        overlap: pixels that neighbours share, less than half a tile.
    """
    height, width = ir.shape
    sides = min(tile, height), min(tile, width)
    fused = np.zeros((height, width), np.float32)
    # Strips of one row of tiles, so that no second array of weights of the size of the image is needed.
    row_sum = np.zeros(height, np.float32)
    for top, row_ramp in _places(height, sides[0], overlap):
        row_sum[top : top + sides[0]] += row_ramp
    places = itertools.product(_places(height, sides[0], overlap), _places(width, sides[1], overlap))
    areas = (np.s_[top : top + sides[0], left : left + sides[1]] for (top, _), (left, _) in places)
    tiles = fuse((ir[area], vis_y[area]) for area in areas)
    for top, row_ramp in _places(height, sides[0], overlap):
        rows = slice(top, top + sides[0])
        strip = np.zeros((sides[0], width), np.float32)
        column_sum = np.zeros(width, np.float32)
        for left, column_ramp in _places(width, sides[1], overlap):
            columns = slice(left, left + sides[1])
            strip[:, columns] += next(tiles) * column_ramp
            column_sum[columns] += column_ramp
        strip /= column_sum
        fused[rows] += strip * (row_ramp / row_sum[rows])[:, None]
    return fused


def _places(length: int, side: int, overlap: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the start of each tile along one axis, and its weights."""
    step = max(side - overlap, 1)
    count = 1 if side >= length else -(-(length - side) // step) + 1
    # They are spread evenly, so that no two tiles overlap much more than the others.
    for start in np.rint(np.linspace(0, length - side, count)).astype(int):
        distance = np.arange(side) + 0.5
        ramp = np.ones(side)
        if start > 0:
            ramp = np.minimum(ramp, distance / max(overlap, 1))
        if start + side < length:
            ramp = np.minimum(ramp, distance[::-1] / max(overlap, 1))
        yield int(start), ramp.astype(np.float32)
