"""What all figures share: matplotlib where it is needed, small print, colours, and files whose bytes repeat."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Shaped

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
