"""What all figures share: matplotlib, imported only where it is needed, one style, and files whose bytes repeat."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Shaped

from rpfnet_jax.runtime import require

# Okabe and Ito's palette, distinct for colour-blind readers.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")

FIGURE_FORMATS = ("png", "pdf")

_STYLE: Any = {
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
def styled() -> Iterator[None]:
    """Applies one style whatever the user's matplotlibrc says; `@styled()` decorates functions that draw."""
    matplotlib = require("report")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float, pad: float | None = None) -> Any:
    """Returns an empty Figure of a size in inches, whose layout makes room for labels.

    Args:
        width: in inches.
        height: in inches.
        pad: space between images in inches, for figures that consist of images; None: matplotlib's default.
    """
    # matplotlib's own Figure, not pyplot's: that would choose a backend for the whole process.
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), layout="constrained")
    if pad is not None:
        figure.get_layout_engine().set(w_pad=pad, h_pad=pad, wspace=0, hspace=0)
    return figure


def encode(figure: Any, form: str = "png", dpi: int = 300) -> bytes:
    """Encodes a figure as a file; equal figures give equal bytes.

    Args:
        figure: a matplotlib Figure, such as the functions of this package return.
        form: `png` or `pdf`.
        dpi: pixels per inch; in a PDF, of the images.

    Raises:
        ValueError: another format, or a resolution outside 20 to 1200.
    """
    if form not in FIGURE_FORMATS:
        raise ValueError(f"a figure's format must be one of {', '.join(FIGURE_FORMATS)}, got {form!r}")
    if not 20 <= dpi <= 1200:
        raise ValueError(f"dpi must be from 20 to 1200, got {dpi}")
    # Without version and date, which would differ between equal figures.
    metadata = {"Software": None} if form == "png" else {"Creator": None, "Producer": None, "CreationDate": None}
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def plain(text: str) -> str:
    """Escapes a user's label, so that no $ begins a formula."""
    return text.replace("$", r"\$")


def show_image(axis: Any, image: Shaped[np.ndarray, "h w *channels"], title: str = "", **options: Any) -> Any:
    """Draws an image without axes: uint8, grey or RGB; or a map with `cmap` and its limits."""
    if image.ndim == 2 and "cmap" not in options:
        options |= {"cmap": "gray", "vmin": 0, "vmax": 255}
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(plain(title), pad=3)
    return axis.imshow(image, **{"interpolation": "antialiased", **options})
