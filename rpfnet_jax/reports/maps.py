"""Maps beside the pictures that they belong to: features of every stage (Figure 3), weights and masks (Eq. 6, 7, 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from rpfnet_jax.reports.canvas import new_figure, show_picture, styled

_WIDTH = 6.8


@styled
def features_figure(
    pictures: Mapping[str, UInt8[np.ndarray, "h w"]], stages: Sequence[Mapping[str, Float[np.ndarray, "h w"]]]
) -> Any:
    """Draws pictures in a first row, then one row of feature maps per stage.

    Each map is stretched from its 1 % to its 99 % quantile: the borders hold outliers.

    Args:
        pictures: title -> picture, as many as a stage has maps.
        stages: of each stage: title -> map; the same titles in all.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no stages, or another number of pictures than of maps.
    """
    if not stages or any(len(stage) != len(pictures) for stage in stages):
        raise ValueError(f"{len(pictures)} pictures need stages of as many maps")
    height, width = next(iter(pictures.values())).shape
    cell = _WIDTH / len(pictures)
    rows = len(stages) + 1
    figure = new_figure(_WIDTH + 0.75, rows * cell * height / width + 0.5)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(rows, len(pictures), squeeze=False)
    for axis, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        show_picture(axis, picture, title)
    for index, (line, stage) in enumerate(zip(axes[1:], stages, strict=True)):
        for axis, (title, values) in zip(line, stage.items(), strict=True):
            image = show_picture(axis, _stretched(values), title if index == 0 else "", cmap="viridis", vmin=0, vmax=1)
        line[0].set_ylabel(f"stage {index + 1}", labelpad=2)
    bar = figure.colorbar(image, ax=axes[1:], shrink=0.5, pad=0.01, ticks=(0, 1))
    bar.ax.set_yticklabels(("least", "most"))
    return figure


@styled
def weights_figure(
    pictures: Mapping[str, UInt8[np.ndarray, "h w"]], masks: Mapping[str, Float[np.ndarray, "h w"]]
) -> Any:
    """Draws pictures, then maps of 0 and 1 with the share of pixels that are 1.

    Args:
        pictures: title -> picture, the first row.
        masks: title -> map in [0, 1], as many, the second row.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no pictures, or another number of masks.
    """
    if not pictures or len(masks) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures need as many masks, and there must be some")
    height, width = next(iter(pictures.values())).shape
    figure = new_figure(_WIDTH, 2 * (_WIDTH / len(pictures) * height / width + 0.22))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    above, below = figure.subplots(2, len(pictures), squeeze=False)
    for axis, (title, picture) in zip(above, pictures.items(), strict=True):
        show_picture(axis, picture, title)
    for axis, (title, mask) in zip(below, masks.items(), strict=True):
        show_picture(axis, mask, f"{title}: {100 * mask.mean():.1f} %", cmap="gray", vmin=0, vmax=1)
    return figure


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (1, 99))
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
