"""Spread of metrics over the images of several sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rpfnet_jax.metrics import PROTOCOLS
from rpfnet_jax.reports.canvas import COLORS, new_figure, styled

PerImage = Mapping[str, Mapping[str, float]]


@styled
def spread_figure(
    sets: Mapping[str, Mapping[str, PerImage]],
    printed: Mapping[str, Mapping[str, float]],
    protocol: str,
    metrics: tuple[str, ...] = ("EN", "SF", "SD", "CC", "SCD", "VIFF"),
) -> Any:
    """Bars of the mean per set and method, whiskers from the 10th to the 90th percentile of the images.

    Args:
        sets: name of the set -> method -> image -> row of `rpfnet_jax.metrics.measure`.
        printed: name of the set -> metric -> a published mean, drawn as a black dash; may lack some.
        protocol: `standard` or `paper`.
        metrics: one panel each, names of `PROTOCOLS[protocol]`.

    Returns:
        A matplotlib Figure; `encode` makes a file of it.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message says how to get it.
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
                mean = np.mean(values)
                x = place + (index - (len(methods) - 1) / 2) * width
                label = method if place == 0 else None
                axis.bar(x, mean, 0.92 * width, color=COLORS[index % len(COLORS)], label=label)
                axis.plot([x, x], np.percentile(values, (10, 90)), color="0.25", linewidth=1)
            if metric in printed.get(name, {}):
                value = printed[name][metric]
                axis.plot([place - 0.45, place + 0.45], [value, value], color="black", linewidth=2, label=None)
        axis.set_title(metric)
        axis.set_xticks(range(len(sets)), list(sets))
        axis.spines[["top", "right"]].set_visible(False)
    axes.flat[0].plot([], [], color="black", linewidth=2, label="printed in the paper")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods) + 1)
    return figure
