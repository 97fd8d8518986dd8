"""Images beside each other: contact sheets, and comparison panels with enlarged details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from rpfnet_jax.reports.figures import new_figure, plain, show_image, styled

_GAP = 4
_LABEL = 14

# Red as in the paper; further boxes differ in brightness as well.
_FRAMES = ((230, 20, 20), (86, 180, 233), (240, 228, 66))
# Largest inset, relative to the image's width and height.
_INSET = 0.42
# Smaller images are enlarged until their longer side has this many pixels, so that frames and insets are not coarse.
_LEAST_SIDE = 600

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the last two are exclusive."""


def contact_sheet(
    rows: Mapping[str, Sequence[UInt8[np.ndarray, "..."]]], titles: Sequence[str], height: int = 200
) -> UInt8[np.ndarray, "y x 3"]:
    """Draws labelled rows of images, each scaled to the same height, as one RGB image.

    Args:
        rows: row label -> images, uint8 grey or RGB, one per title.
        titles: column titles, such as `IR`, `VIS`, `fused`.
        height: height of each image on the sheet in pixels.

    Raises:
        ValueError: no rows, or a row without one image per title.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    strips = []
    for label, images in rows.items():
        _check_count(label, images, titles)
        scaled = [_scaled(image, height) for image in images]
        strip = Image.new("RGB", (sum(image.width + _GAP for image in scaled) + _GAP, height + _LABEL + _GAP), "white")
        draw = ImageDraw.Draw(strip)
        x = _GAP
        for title, image in zip(titles, scaled, strict=True):
            draw.text((x, 1), f"{label}: {title}", fill="black")
            strip.paste(image, (x, _LABEL))
            x += image.width + _GAP
        strips.append(strip)
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    y = 0
    for strip in strips:
        sheet.paste(strip, (0, y))
        y += strip.height
    return np.asarray(sheet)


def _scaled(image: np.ndarray, height: int) -> Image.Image:
    rgb = Image.fromarray(image).convert("RGB")
    return rgb.resize((max(1, round(rgb.width * height / rgb.height)), height), Image.Resampling.LANCZOS)


def _check_count(label: str, images: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    if len(images) != len(titles):
        raise ValueError(f"row {label!r} has {len(images)} images for {len(titles)} titles")


class Box(NamedTuple):
    """A detail: column and row of its upper left pixel, width and height."""

    x: int
    y: int
    width: int
    height: int


def zoom(image: UInt8[np.ndarray, "h w *channels"], boxes: Sequence[Box]) -> UInt8[np.ndarray, "y x 3"]:
    """Frames details and shows them enlarged in corners of the image, in frames of the same colour.

    The places of the insets depend only on the size of the image and the boxes: corners that hide no box come first,
    bottom right before bottom left, top right and top left.

    Args:
        image: grey (h, w) or RGB (h, w, 3).
        boxes: at most three.

    Returns:
        RGB, the image enlarged by the whole number that brings its longer side to 600 pixels or more.

    Raises:
        ValueError: too many boxes, one is not inside the image, or too large to be enlarged.
    """
    if len(boxes) > len(_FRAMES):
        raise ValueError(f"an image takes at most {len(_FRAMES)} boxes, got {len(boxes)}")
    height, width = image.shape[:2]
    for box in boxes:
        _check_box(box, width, height)
    factor = -(-_LEAST_SIDE // max(height, width))
    source = Image.fromarray(image).convert("RGB")
    canvas = source.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    line = max(2, round(max(canvas.size) / 150))
    details = [(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes]
    framed = [(left * factor, top * factor, right * factor, bottom * factor) for left, top, right, bottom in details]
    taken = list(framed)
    for box, detail, frame, color in zip(boxes, details, framed, _FRAMES, strict=False):
        _draw_frame(draw, frame, line, color)
        scale = min(_INSET * canvas.width / box.width, _INSET * canvas.height / box.height)
        size = round(box.width * scale), round(box.height * scale)
        place = _corner(canvas.size, (size[0] + 2 * line, size[1] + 2 * line), taken)
        x, y = place[0] + line, place[1] + line
        canvas.paste(source.crop(detail).resize(size, Image.Resampling.BICUBIC), (x, y))
        _draw_frame(draw, (x, y, x + size[0], y + size[1]), line, color)
        taken.append(place)
    return np.asarray(canvas)


def _check_box(box: Box, width: int, height: int) -> None:
    text = ",".join(map(str, box))
    inside = 0 <= box.x < box.x + box.width <= width and 0 <= box.y < box.y + box.height <= height
    if not inside:
        raise ValueError(f"the box {text} (x,y,width,height) is not inside an image of {width}x{height}")
    if box.width > _INSET * width or box.height > _INSET * height:
        raise ValueError(f"the box {text} is too large to be enlarged in an image of {width}x{height}")


def _draw_frame(draw: Any, inside: Rectangle, line: int, color: tuple[int, int, int]) -> None:
    """Draws a frame around a rectangle; no pixel inside is covered."""
    left, top, right, bottom = inside
    draw.rectangle((left - line, top - line, right + line - 1, bottom + line - 1), outline=color, width=line)


def _corner(canvas: tuple[int, int], size: tuple[int, int], taken: Sequence[Rectangle]) -> Rectangle:
    """Returns the place for an inset in the corner where it hides least of the rectangles."""
    right, bottom = canvas[0] - size[0], canvas[1] - size[1]
    places = [(x, y, x + size[0], y + size[1]) for x, y in ((right, bottom), (0, bottom), (right, 0), (0, 0))]
    return min(places, key=lambda place: hidden_area(place, taken))


def hidden_area(place: Sequence[int | float], taken: Sequence[Sequence[int | float]]) -> int | float:
    """Sums the areas that a rectangle (left, top, right, bottom) hides of others."""
    return sum(
        max(0, min(place[2], other[2]) - max(place[0], other[0]))
        * max(0, min(place[3], other[3]) - max(place[1], other[1]))
        for other in taken
    )


@styled()
def panel_figure(
    rows: Mapping[str, Sequence[UInt8[np.ndarray, "..."]]],
    titles: Sequence[str],
    boxes: Mapping[str, Sequence[Box]] = MappingProxyType({}),
    cell_width: float = 1.4,
) -> Any:
    """Draws a panel as a matplotlib Figure: one row per scene, one column per title.

    Args:
        rows: label -> images, uint8 grey or RGB, one per title; those of a row have one size.
        titles: heads of the columns, such as IR, VIS and the methods.
        boxes: label -> details to enlarge, see `zoom`.
        cell_width: width of an image in inches.

    Raises:
        ValueError: no rows, a row without one image per title, images of a row differ in size, boxes of a row that does
            not exist, or unusable boxes.
    """
    if not rows:
        raise ValueError("a panel needs at least one row")
    unknown = [label for label in boxes if label not in rows]
    if unknown:
        raise ValueError(f"there are boxes for {unknown[0]}, but no such row")
    ratios = []
    for label, images in rows.items():
        _check_count(label, images, titles)
        sizes = {image.shape[:2] for image in images}
        if len(sizes) > 1:
            raise ValueError(f"row {label!r} has images of different sizes: {', '.join(map(str, sorted(sizes)))}")
        height, width = sizes.pop()
        ratios.append(height / width)
    figure = new_figure(cell_width * len(titles) + 0.25, cell_width * sum(ratios) + 0.2 + 0.03 * len(rows), pad=0.015)
    axes = figure.subplots(len(rows), len(titles), squeeze=False, gridspec_kw={"height_ratios": ratios})
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            show_image(axis, zoom(image, boxes.get(label, ())))
        line[0].set_ylabel(plain(label), labelpad=2)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(plain(title), pad=3)
    return figure
