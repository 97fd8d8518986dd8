"""How the terms of a loss went down: one panel per term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rpfnet_jax.reports.canvas import COLORS, new_figure, plain, styled

_COLUMNS = 3


@styled
def curves_figure(runs: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], window: int = 25) -> Any:
    """Draws every term over the steps: each step faint, and the running mean on top.

    Args:
        runs: run -> term -> (step, value) in order; terms may be missing in some.
        window: steps of the running mean; it ends at the step that it is drawn at.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no terms, or an empty window.
    """
    terms = list(dict.fromkeys(term for run in runs.values() for term in run))
    if not terms or window < 1:
        raise ValueError("curves need at least one term and a window of at least 1")
    columns = min(_COLUMNS, len(terms))
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
            axis.plot(
                points[:, 0], _running_mean(points[:, 1], window), color=color, linewidth=1.1, label=plain(name), **dot
            )
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
