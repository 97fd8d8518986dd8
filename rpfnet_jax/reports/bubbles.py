"""Quality against cost: a metric over parameters, FLOPs as the size of bubbles (the paper's Figure 1b)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rpfnet_jax.reports.canvas import COLORS, new_figure, plain, styled

# Area of the largest bubble in square points.
_LARGEST = 1400.0


class Bubble(NamedTuple):
    """One method.

    Attributes:
        name: what it is called.
        value: the metric.
        parameters: how many it has.
        gflops: billions of floating point operations for one picture.
    """

    name: str
    value: float
    parameters: float
    gflops: float


def read_bubbles(text: str) -> tuple[str, list[Bubble]]:
    """Reads a CSV with the columns name, the metric (under its own name), parameters, gflops.

    Returns:
        The metric's name, and the methods.

    Raises:
        ValueError: other columns, no methods, a value that is no number, or a cost that is not positive.
    """
    head, *rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row] or [[]]
    if len(head) != 4 or (head[0], *head[2:]) != ("name", "parameters", "gflops"):
        raise ValueError("the columns must be name, a metric, parameters, gflops")
    if not rows:
        raise ValueError("there are no methods")
    bubbles = []
    for row in rows:
        if len(row) != 4:
            raise ValueError(f"{len(row)} values under 4 columns: {','.join(row)}")
        bubble = Bubble(row[0], *map(float, row[1:]))
        if not (np.isfinite(bubble[1:]).all() and bubble.parameters > 0 and bubble.gflops > 0):
            raise ValueError(f"{bubble.name}: parameters and gflops must be positive numbers")
        bubbles.append(bubble)
    return head[1], bubbles


@styled
def bubble_figure(metric: str, bubbles: Sequence[Bubble]) -> Any:
    """Draws the metric over the number of parameters; the area of a bubble is its FLOPs, which stand beside it.

    Args:
        metric: label of the vertical axis.
        bubbles: at least one.

    Returns:
        A matplotlib Figure.
    """
    figure = new_figure(4.6, 3.2)
    axis = figure.subplots()
    most = max(bubble.gflops for bubble in bubbles)
    # The largest first, so that it does not cover others.
    for index, bubble in sorted(enumerate(bubbles), key=lambda pair: -pair[1].gflops):
        color = COLORS[index % (len(COLORS) - 1)]
        area = _LARGEST * bubble.gflops / most
        axis.scatter(bubble.parameters, bubble.value, area, color=color, alpha=0.6, edgecolor="0.2", linewidth=0.6)
        axis.plot(bubble.parameters, bubble.value, ".", color="black", markersize=2)
    axis.set(xscale="log", xlabel="parameters", ylabel=metric)
    # Room for the bubbles: limits know centres only.
    axis.margins(0.22)
    _label(figure, axis, bubbles, most)
    return figure


def _label(figure: Any, axis: Any, bubbles: Sequence[Bubble], most: float) -> None:
    """Names beside the bubbles, each where it hides least of what is there already."""
    # Places are in pixels, so the layout has to be settled first.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    pixel = figure.dpi / 72
    centres = axis.transData.transform([(b.parameters, b.value) for b in bubbles])
    radii = [pixel * (_LARGEST * b.gflops / most) ** 0.5 / 2 for b in bubbles]
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    frame = axis.get_window_extent()
    for bubble, (x, y), radius in zip(bubbles, centres, radii, strict=True):
        name = f"{plain(bubble.name)}\n{bubble.gflops:.3g} GFLOPs"
        text = axis.annotate(
            name, (bubble.parameters, bubble.value), (0, 0), textcoords="offset pixels", fontsize=7, linespacing=1.0
        )
        extent = text.get_window_extent()
        width, height, gap = extent.width, extent.height, 2 * pixel
        offsets = [
            (-width / 2, radius + gap),
            (-width / 2, -radius - gap - height),
            (radius + gap, -height / 2),
            (-radius - gap - width, -height / 2),
        ]

        def hidden(offset: tuple[float, float], x=x, y=y, width=width, height=height) -> float:
            left, bottom = x + offset[0], y + offset[1]
            right, top = left + width, bottom + height
            outside = max(0, frame.x0 - left, right - frame.x1) + max(0, frame.y0 - bottom, top - frame.y1)
            return 1e3 * outside + sum(
                max(0, min(right, t[2]) - max(left, t[0])) * max(0, min(top, t[3]) - max(bottom, t[1])) for t in taken
            )

        best = min(offsets, key=hidden)
        # In points: pixels would differ at another resolution.
        text.set_anncoords("offset points")
        text.set_position((best[0] / pixel, best[1] / pixel))
        taken.append((x + best[0], y + best[1], x + best[0] + width, y + best[1] + height))
