"""What all figures share: matplotlib where it is needed, small print, colours, and files whose bytes repeat."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageDraw

# Okabe and Ito's palette, distinct for colour-blind readers.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")

FIGURE_FORMATS = ("png", "pdf")

_STYLE = {
    # Points, at the size of a figure in print.
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
}


@contextmanager
def _style() -> Iterator[None]:
    """matplotlib's own defaults in small print, whatever the user's matplotlibrc says."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of functions that make a Figure: one style for all."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Any:
        with _style():
            return draw(*arguments, **options)

    return drawn


def new_figure(width: float, height: float) -> Any:
    """An empty Figure of a size in inches; its layout makes room for labels.

    matplotlib's own Figure, not pyplot's: that would choose a backend for the whole process.
    """
    _matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def encode(figure: Any, form: str = "png", dpi: int = 300) -> bytes:
    """A figure as a file; equal figures give equal bytes.

    Args:
        figure: a matplotlib Figure, such as the functions of this package return.
        form: `png` or `pdf`.
        dpi: pixels per inch; in a PDF only pictures have them.

    Raises:
        ValueError: another format, or an absurd resolution.
    """
    if form not in FIGURE_FORMATS:
        raise ValueError(f"a figure's format must be one of {', '.join(FIGURE_FORMATS)}, got {form!r}")
    if not 20 <= dpi <= 1200:
        raise ValueError(f"dpi must be from 20 to 1200, got {dpi}")
    # Without version and date in them.
    metadata = {"Software": None} if form == "png" else {"Creator": None, "Producer": None, "CreationDate": None}
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def plain(text: str) -> str:
    """A label that comes from a user: no $ begins a formula."""
    return text.replace("$", r"\$")


def show_picture(axis: Any, picture: Shaped[np.ndarray, "h w *channels"], title: str = "", **options: Any) -> Any:
    """Draws a picture without axes: uint8, grey or RGB; or a map with `cmap` and its limits."""
    if picture.ndim == 2 and "cmap" not in options:
        options |= {"cmap": "gray", "vmin": 0, "vmax": 255}
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(plain(title), pad=3)
    return axis.imshow(picture, **{"interpolation": "antialiased", **options})


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('figures need matplotlib: pip install "rpfnet-jax[report]"') from error
    return matplotlib


_GAP = 4
_LABEL = 14


def contact_sheet(
    rows: Mapping[str, Sequence[UInt8[np.ndarray, "..."]]], titles: Sequence[str], height: int = 200
) -> UInt8[np.ndarray, "y x 3"]:
    """Draws labelled rows of pictures, each scaled to the same height.

    Args:
        rows: row label -> pictures, uint8 grey or RGB, one per title.
        titles: column titles, such as `IR`, `VIS`, `fused`.
        height: height of each picture on the sheet in pixels.

    Returns:
        The sheet as an RGB picture.

    Raises:
        ValueError: no rows, or a row without one picture per title.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    strips = []
    for label, pictures in rows.items():
        if len(pictures) != len(titles):
            raise ValueError(f"row {label!r} has {len(pictures)} pictures for {len(titles)} titles")
        scaled = [_scaled(picture, height) for picture in pictures]
        strip = Image.new("RGB", (sum(p.width + _GAP for p in scaled) + _GAP, height + _LABEL + _GAP), "white")
        draw = ImageDraw.Draw(strip)
        x = _GAP
        for title, picture in zip(titles, scaled, strict=True):
            draw.text((x, 1), f"{label}: {title}", fill="black")
            strip.paste(picture, (x, _LABEL))
            x += picture.width + _GAP
        strips.append(strip)
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    y = 0
    for strip in strips:
        sheet.paste(strip, (0, y))
        y += strip.height
    return np.asarray(sheet)


def _scaled(picture: np.ndarray, height: int) -> Image.Image:
    image = Image.fromarray(picture).convert("RGB")
    return image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)


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
