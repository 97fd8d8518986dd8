"""Plots: quality against cost (Figure 1b), loss curves, power spectra (Figure 6), and means with their spread."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from rpfnet_jax.metrics import PROTOCOLS
from rpfnet_jax.reports.figures import COLORS, new_figure, plain, show_image, styled
from rpfnet_jax.reports.panels import hidden_area
from rpfnet_jax.reports.tables import PAPER_METRICS, PerImage

# Area of the largest bubble in square points.
_LARGEST = 1400.0
# Panels in a row of a figure of curves, and spectra in a row of theirs.
_CURVES_PER_ROW = 3
_SPECTRA_PER_ROW = 6
# Sources in black and grey, so that colours are left for methods.
_SOURCES = {"IR": ("0.0", "--"), "VIS": ("0.5", "--")}


class Bubble(NamedTuple):
    """One method.

    Attributes:
        name: its label.
        value: the metric.
        parameters: number of parameters.
        gflops: billions of floating point operations for one image.
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


@styled()
def bubble_figure(metric: str, bubbles: Sequence[Bubble]) -> Any:
    """Draws the metric over the number of parameters as a matplotlib Figure; the area of a bubble is its FLOPs.

    Args:
        metric: label of the vertical axis.
        bubbles: at least one.
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
    # Automatic limits take only the centres of the bubbles into account.
    axis.margins(0.22)
    _label(figure, axis, bubbles, most)
    return figure


def _label(figure: Any, axis: Any, bubbles: Sequence[Bubble], most: float) -> None:
    """Writes names and FLOPs beside the bubbles, each where it hides least of what is there already."""
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
        corners = [
            (x - width / 2, y + radius + gap),
            (x - width / 2, y - radius - gap - height),
            (x + radius + gap, y - height / 2),
            (x - radius - gap - width, y - height / 2),
        ]

        def cost(place: tuple[float, float, float, float]) -> float:
            left, bottom, right, top = place
            outside = max(0, frame.x0 - left, right - frame.x1) + max(0, frame.y0 - bottom, top - frame.y1)
            return 1e3 * outside + hidden_area(place, taken)

        best = min(((left, bottom, left + width, bottom + height) for left, bottom in corners), key=cost)
        # In points: pixels would differ at another resolution.
        text.set_anncoords("offset points")
        text.set_position(((best[0] - x) / pixel, (best[1] - y) / pixel))
        taken.append(best)


@styled()
def curves_figure(runs: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], window: int = 25) -> Any:
    """Draws every term over the steps as a matplotlib Figure: each step faint, and the running mean on top.

    Args:
        runs: run -> term -> (step, value) in order; terms may be missing in some.
        window: steps of the running mean; it ends at the step that it is drawn at.

    Raises:
        ValueError: no terms, or an empty window.
    """
    terms = list(dict.fromkeys(term for run in runs.values() for term in run))
    if not terms or window < 1:
        raise ValueError("curves need at least one term and a window of at least 1")
    columns = min(_CURVES_PER_ROW, len(terms))
    rows = -(-len(terms) // columns)
    figure = new_figure(2.3 * columns, 1.6 * rows + 0.3)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, term in zip(axes, terms, strict=False):
        for index, (name, run) in enumerate(runs.items()):
            points = np.array(run.get(term, ()), dtype=np.float64).reshape(-1, 2)
            color = COLORS[index % len(COLORS)]
            if len(points) > 1:
                axis.plot(*points.T, color=color, alpha=0.25, linewidth=0.6)
            dot = {"marker": "."} if len(points) < 20 else {}
            mean = _running_mean(points[:, 1], window)
            axis.plot(points[:, 0], mean, color=color, linewidth=1.1, label=plain(name), **dot)
        axis.set_title(term)
    for axis in axes[len(terms) :]:
        axis.set_axis_off()
    for axis in axes[max(0, len(terms) - columns) : len(terms)]:
        axis.set_xlabel("step")
    if len(runs) > 1:
        handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


@styled()
def spectra_figure(
    spectra: Mapping[str, Float[np.ndarray, "y x"]], profiles: Mapping[str, Float[np.ndarray, " rings"]]
) -> Any:
    """Draws log spectra under one colour scale, and below them the radial profiles, as a matplotlib Figure.

    Args:
        spectra: name -> `rpfnet_jax.metrics.log_spectrum`; IR and VIS are the sources.
        profiles: the same names -> `rpfnet_jax.metrics.radial_profile`.

    Raises:
        ValueError: no spectra, or other names in `profiles`.
    """
    if not spectra or set(spectra) != set(profiles):
        raise ValueError("a figure of spectra needs spectra, and a profile of each")
    lines = -(-len(spectra) // _SPECTRA_PER_ROW)
    columns = -(-len(spectra) // lines)
    figure = new_figure(max(4.0, 1.2 * columns + 0.6), 1.35 * lines + 2.4)
    above, below = figure.subfigures(2, 1, height_ratios=(1.35 * lines, 2.4))
    axes = above.subplots(lines, columns, squeeze=False)
    values = np.concatenate([spectrum.ravel() for spectrum in spectra.values()])
    # The zero frequency is 0 by definition and would stretch the scale.
    low, high = np.percentile(values, (0.5, 99.95))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, spectrum) in zip(axes.flat, spectra.items(), strict=False):
        axis.set_axis_on()
        # Square whatever the image's shape: both axes run from -0.5 to 0.5 cycles per pixel.
        shown = show_image(axis, spectrum, name, cmap="magma", vmin=low, vmax=high, extent=(-0.5, 0.5, 0.5, -0.5))
    above.colorbar(shown, ax=axes, label="log10(1 + PSD)", shrink=0.85, pad=0.01)

    axis = below.subplots()
    methods = [name for name in profiles if name not in _SOURCES]
    for name, profile in profiles.items():
        if name in _SOURCES:
            color, dash = _SOURCES[name]
        else:
            # When the palette's colours are used up, dashes distinguish the methods.
            turn, index = divmod(methods.index(name), len(COLORS) - 1)
            color, dash = COLORS[index], ("-", "-.", ":")[turn % 3]
        frequencies = (np.arange(len(profile)) + 0.5) / (2 * len(profile))
        defined = np.isfinite(profile) & (profile > 0)
        axis.plot(frequencies[defined], profile[defined], color=color, linestyle=dash, linewidth=1.1, label=plain(name))
    axis.set(yscale="log", xlim=(0, 0.5), xlabel="spatial frequency (cycles per pixel)", ylabel="PSD per pixel")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


@styled()
def spread_figure(
    sets: Mapping[str, Mapping[str, PerImage]],
    printed: Mapping[str, Mapping[str, float]],
    protocol: str,
    metrics: Sequence[str] = PAPER_METRICS,
) -> Any:
    """Draws the mean per set and method as bars, with whiskers from the 10th to the 90th percentile of the images.

    Args:
        sets: name of the set -> method -> image -> row of `rpfnet_jax.metrics.measure`.
        printed: name of the set -> metric -> a published mean, drawn as a black dash; may lack some.
        protocol: `standard` or `paper`.
        metrics: one panel each, labels of `PROTOCOLS[protocol]`.

    Returns:
        A matplotlib Figure.
    """
    methods = list(next(iter(sets.values())))
    width = 0.8 / len(methods)
    figure = new_figure(10.0, 5.2)
    axes = figure.subplots(2, -(-len(metrics) // 2))
    for axis, metric in zip(axes.flat, metrics, strict=False):
        column = PROTOCOLS[protocol][metric]
        for place, (name, results) in enumerate(sets.items()):
            for index, method in enumerate(methods):
                values = [row[column] for row in results[method].values()]
                x = place + (index - (len(methods) - 1) / 2) * width
                label = method if place == 0 else None
                axis.bar(x, np.mean(values), 0.92 * width, color=COLORS[index % len(COLORS)], label=label)
                axis.plot([x, x], np.percentile(values, (10, 90)), color="0.25", linewidth=1)
            if metric in printed.get(name, {}):
                value = printed[name][metric]
                axis.plot([place - 0.45, place + 0.45], [value, value], color="black", linewidth=2)
        axis.set_title(metric)
        axis.set_xticks(range(len(sets)), list(sets))
    axes.flat[0].plot([], [], color="black", linewidth=2, label="printed in the paper")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods) + 1)
    return figure
