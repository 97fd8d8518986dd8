"""Figures of metrics. matplotlib is imported where it is used: the extra `report`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from rpfnet_jax.metrics import PROTOCOLS

PerImage = Mapping[str, Mapping[str, float]]

# Okabe and Ito's palette, distinct for colour-blind readers.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


def spread_figure(
    sets: Mapping[str, Mapping[str, PerImage]],
    printed: Mapping[str, Mapping[str, float]],
    protocol: str,
    metrics: tuple[str, ...] = ("EN", "SF", "SD", "CC", "SCD", "VIFF"),
) -> bytes:
    """Bars of the mean per set and method, whiskers from the 10th to the 90th percentile of the images.

    Args:
        sets: name of the set -> method -> image -> row of `rpfnet_jax.metrics.measure`.
        printed: name of the set -> metric -> a published mean, drawn as a black dash; may lack some.
        protocol: `standard` or `paper`.
        metrics: one panel each, names of `PROTOCOLS[protocol]`.

    Returns:
        A PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message says how to get it.
    """
    Figure = _figure_class()  # noqa: N806 (a class)
    methods = list(next(iter(sets.values())))
    width = 0.8 / len(methods)
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes = figure.subplots(2, -(-len(metrics) // 2))
    for axis, metric in zip(axes.flat, metrics, strict=False):
        column = PROTOCOLS[protocol][metric]
        for place, (name, results) in enumerate(sets.items()):
            for index, method in enumerate(methods):
                values = [row[column] for row in results[method].values()]
                mean = np.mean(values)
                x = place + (index - (len(methods) - 1) / 2) * width
                label = method if place == 0 else None
                axis.bar(x, mean, 0.92 * width, color=_COLORS[index % len(_COLORS)], label=label)
                axis.plot([x, x], np.percentile(values, (10, 90)), color="0.25", linewidth=1)
            if metric in printed.get(name, {}):
                value = printed[name][metric]
                axis.plot([place - 0.45, place + 0.45], [value, value], color="black", linewidth=2, label=None)
        axis.set_title(metric)
        axis.set_xticks(range(len(sets)), list(sets))
        axis.spines[["top", "right"]].set_visible(False)
    axes.flat[0].plot([], [], color="black", linewidth=2, label="printed in the paper")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods) + 1)
    buffer = io.BytesIO()
    # Without the version of matplotlib in it, equal data give equal bytes.
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _figure_class() -> Any:
    """matplotlib's own Figure, not pyplot's: that would choose a backend for the whole process."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('figures need matplotlib: pip install "rpfnet-jax[report]"') from error
    return Figure
