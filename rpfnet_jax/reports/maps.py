"""Maps beside the pictures that they belong to: features of every stage (Figure 3), weights and masks (Eq. 6, 7, 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from rpfnet_jax.reports.panels import new_figure, show_picture, styled

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


class Window(NamedTuple):
    """A square of frequencies, in the spectrum with the zero frequency in its centre, and in cycles per pixel.

    Attributes:
        y: vertical frequency of its centre.
        x: horizontal frequency of its centre.
        side: its width and height.
    """

    y: float = 0.02
    x: float = 0.02
    side: float = 0.03


def window_mask(shape: tuple[int, int], window: Window = Window()) -> Float[np.ndarray, "h w"]:
    """1 in the window and in its mirror image, which a real picture needs, else 0; uncentred, as `fft2` orders it.

    The zero frequency is never in it: its phase is the sign of the mean.

    Raises:
        ValueError: the window holds no frequency of a picture of this size.
    """
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])
    inside = (abs(rows - window.y) <= window.side / 2) & (abs(columns - window.x) <= window.side / 2)
    inside |= (abs(rows + window.y) <= window.side / 2) & (abs(columns + window.x) <= window.side / 2)
    inside[0, 0] = False
    if not inside.any():
        raise ValueError(f"a picture of {shape[0]}x{shape[1]} has no frequencies in {window}")
    return inside.astype(np.float64)


def change_phase(picture: UInt8[np.ndarray, "h w"], window: Window = Window()) -> UInt8[np.ndarray, "h w"]:
    """Sets the phase to 0 in a window of the spectrum and leaves the amplitude as it is.

    Raises:
        ValueError: see `window_mask`.
    """
    spectrum = np.fft.fft2(picture)
    inside = window_mask(picture.shape, window) > 0
    return _picture(np.where(inside, np.abs(spectrum), spectrum))


def with_phase_of(amplitude: UInt8[np.ndarray, "h w"], phase: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A picture with the amplitude spectrum of one picture and the phase spectrum of another."""
    return _picture(np.abs(np.fft.fft2(amplitude)) * np.exp(1j * np.angle(np.fft.fft2(phase))))


@styled
def phase_figure(ir: UInt8[np.ndarray, "h w"], vis: UInt8[np.ndarray, "h w"], window: Window = Window()) -> Any:
    """Draws both demonstrations: a window of the infrared picture's phase set to 0, and the two phases exchanged.

    Args:
        ir: infrared picture.
        vis: visible picture.
        window: where the phase is changed.

    Returns:
        A matplotlib Figure. It says what share of the frequencies was changed and of the pixels did change.

    Raises:
        ValueError: see `window_mask`.
    """
    changed = change_phase(ir, window)
    difference = np.abs(changed.astype(np.int16) - ir)
    inside = window_mask(ir.shape, window)
    phase = np.fft.fftshift(np.where(inside > 0, 0.0, np.angle(np.fft.fft2(ir))))
    height, width = ir.shape
    cell = 1.7
    figure = new_figure(4 * cell, 2 * (cell * height / width + 0.22))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
    axes = figure.subplots(2, 4)
    show_picture(axes[0, 0], ir, "IR")
    # Only its middle, or nobody would see the window.
    extent = (-0.5, 0.5, 0.5, -0.5)
    show_picture(
        axes[0, 1], phase, f"phase, {100 * inside.mean():.2f} % set to 0",
        cmap="twilight", vmin=-np.pi, vmax=np.pi, extent=extent, aspect=height / width, interpolation="nearest",
    )  # fmt: skip
    reach = 2 * (max(abs(window.x), abs(window.y)) + window.side)
    axes[0, 1].set(xlim=(-reach, reach), ylim=(reach, -reach))
    show_picture(axes[0, 2], changed, "transformed back")
    most = max(1.0, float(np.percentile(difference, 99.5)))
    share = 100 * np.mean(difference > 0)
    show_picture(axes[0, 3], difference, f"{share:.0f} % of the pixels differ", cmap="magma", vmin=0, vmax=most)
    show_picture(axes[1, 0], vis, "VIS")
    show_picture(axes[1, 1], with_phase_of(ir, vis), "amplitude of IR, phase of VIS")
    show_picture(axes[1, 2], with_phase_of(vis, ir), "amplitude of VIS, phase of IR")
    amplitude = np.fft.fftshift(np.log10(1 + np.abs(np.fft.fft2(ir))))
    show_picture(axes[1, 3], amplitude, "amplitude of IR, kept (log)", cmap="magma", vmin=2, vmax=amplitude.max())
    return figure


def _picture(spectrum: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(np.fft.ifft2(spectrum).real, 0, 255)).astype(np.uint8)
