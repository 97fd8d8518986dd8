"""Comparison panels: sources and methods in columns, scenes in rows, details enlarged (the paper's Figures 4, 5, 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from rpfnet_jax.reports.canvas import new_figure, plain, show_picture, styled

# Red as in the paper; further boxes differ in brightness as well.
_FRAMES = ((230, 20, 20), (86, 180, 233), (240, 228, 66))
MAX_BOXES = len(_FRAMES)

# Of the picture's width and height, at most.
_INSET = 0.42
# Pictures are drawn on in at least this many pixels, so that frames and insets are not coarse.
_LEAST_SIDE = 600


class Box(NamedTuple):
    """A detail: column and row of its upper left pixel, width and height."""

    x: int
    y: int
    width: int
    height: int


def zoom(picture: UInt8[np.ndarray, "h w *channels"], boxes: Sequence[Box]) -> UInt8[np.ndarray, "y x 3"]:
    """Frames details and shows them enlarged in corners of the picture, in frames of the same colour.

    Where the insets lie depends on the size of the picture and the boxes only: corners that hide no box come first,
    bottom right before bottom left, top right and top left.

    Args:
        picture: uint8, grey (h, w) or RGB (h, w, 3).
        boxes: at most `MAX_BOXES`.

    Returns:
        RGB, the picture enlarged by the whole number that brings its longer side to 600 pixels or more.

    Raises:
        ValueError: too many boxes, one is not inside the picture, or too large to be enlarged.
    """
    if len(boxes) > MAX_BOXES:
        raise ValueError(f"a picture takes at most {MAX_BOXES} boxes, got {len(boxes)}")
    height, width = picture.shape[:2]
    for box in boxes:
        _check(box, width, height)
    factor = -(-_LEAST_SIDE // max(height, width))
    source = Image.fromarray(picture).convert("RGB")
    image = source.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 150))
    framed = [
        (box.x * factor, box.y * factor, (box.x + box.width) * factor, (box.y + box.height) * factor) for box in boxes
    ]
    taken = list(framed)
    for box, frame, color in zip(boxes, framed, _FRAMES, strict=False):
        _frame(draw, frame, line, color)
        scale = min(_INSET * image.width / box.width, _INSET * image.height / box.height)
        size = round(box.width * scale), round(box.height * scale)
        place = _corner(image.size, (size[0] + 2 * line, size[1] + 2 * line), taken)
        x, y = place[0] + line, place[1] + line
        crop = source.crop((box.x, box.y, box.x + box.width, box.y + box.height))
        image.paste(crop.resize(size, Image.Resampling.BICUBIC), (x, y))
        _frame(draw, (x, y, x + size[0], y + size[1]), line, color)
        taken.append(place)
    return np.asarray(image)


@styled
def panel_figure(
    rows: Mapping[str, Sequence[UInt8[np.ndarray, "..."]]],
    titles: Sequence[str],
    boxes: Mapping[str, Sequence[Box]] = MappingProxyType({}),
    cell_width: float = 1.4,
) -> Any:
    """Draws a panel: one row per scene, one column per title.

    Args:
        rows: label -> pictures, uint8 grey or RGB, one per title; those of a row have one size.
        titles: heads of the columns, such as IR, VIS and the methods.
        boxes: label -> details to enlarge, see `zoom`.
        cell_width: width of a picture in inches.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no rows, a row without one picture per title, pictures of a row differ in size, boxes of a row that
            does not exist, or unusable boxes.
    """
    if not rows:
        raise ValueError("a panel needs at least one row")
    unknown = [label for label in boxes if label not in rows]
    if unknown:
        raise ValueError(f"there are boxes for {unknown[0]}, but no such row")
    ratios = []
    for label, pictures in rows.items():
        if len(pictures) != len(titles):
            raise ValueError(f"row {label!r} has {len(pictures)} pictures for {len(titles)} titles")
        sizes = {picture.shape[:2] for picture in pictures}
        if len(sizes) > 1:
            raise ValueError(f"row {label!r} has pictures of different sizes: {', '.join(map(str, sorted(sizes)))}")
        height, width = sizes.pop()
        ratios.append(height / width)
    figure = new_figure(cell_width * len(titles) + 0.25, cell_width * sum(ratios) + 0.2 + 0.03 * len(rows))
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    axes = figure.subplots(len(rows), len(titles), squeeze=False, gridspec_kw={"height_ratios": ratios})
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            show_picture(axis, zoom(picture, boxes.get(label, ())))
        line[0].set_ylabel(plain(label), labelpad=2)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(plain(title), pad=3)
    return figure


def _check(box: Box, width: int, height: int) -> None:
    text = ",".join(map(str, box))
    inside = 0 <= box.x < box.x + box.width <= width and 0 <= box.y < box.y + box.height <= height
    if not inside:
        raise ValueError(f"the box {text} (x,y,width,height) is not inside a picture of {width}x{height}")
    if box.width > _INSET * width or box.height > _INSET * height:
        raise ValueError(f"the box {text} is too large to be enlarged in a picture of {width}x{height}")


def _frame(draw: Any, edges: tuple[int, int, int, int], line: int, color: tuple[int, int, int]) -> None:
    """A frame around the pixels from (left, top) up to, without, (right, bottom): nothing inside is covered."""
    left, top, right, bottom = edges
    draw.rectangle((left - line, top - line, right + line - 1, bottom + line - 1), outline=color, width=line)


def _corner(
    picture: tuple[int, int], size: tuple[int, int], taken: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int, int, int]:
    """The corner that hides least of what is taken."""
    right, bottom = picture[0] - size[0], picture[1] - size[1]
    places = [(x, y, x + size[0], y + size[1]) for x, y in ((right, bottom), (0, bottom), (right, 0), (0, 0))]

    def hidden(place: tuple[int, int, int, int]) -> int:
        return sum(
            max(0, min(place[2], other[2]) - max(place[0], other[0]))
            * max(0, min(place[3], other[3]) - max(place[1], other[1]))
            for other in taken
        )

    return min(places, key=hidden)
