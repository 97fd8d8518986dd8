"""Maps beside their images: features of every stage (Figure 3), weights and masks (Eq. 6, 7, 9), and phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from rpfnet_jax.reports.figures import new_figure, show_image, styled

_WIDTH = 6.8
_PAD = 0.02


@styled()
def features_figure(
    images: Mapping[str, UInt8[np.ndarray, "h w"]], stages: Sequence[Mapping[str, Float[np.ndarray, "h w"]]]
) -> Any:
    """Draws images in a first row, then one row of feature maps per stage, as a matplotlib Figure.

    Each map is stretched from its 1 % to its 99 % quantile: the borders hold outliers.

    Args:
        images: title -> image, as many as a stage has maps.
        stages: of each stage: title -> map; the same titles in all.

    Raises:
        ValueError: no stages, or a different number of images and maps.
    """
    if not stages or any(len(stage) != len(images) for stage in stages):
        raise ValueError(f"{len(images)} images need stages of as many maps")
    height, width = next(iter(images.values())).shape
    rows = len(stages) + 1
    figure = new_figure(_WIDTH + 0.75, rows * _WIDTH / len(images) * height / width + 0.5, _PAD)
    axes = figure.subplots(rows, len(images), squeeze=False)
    for axis, (title, image) in zip(axes[0], images.items(), strict=True):
        show_image(axis, image, title)
    for index, (line, stage) in enumerate(zip(axes[1:], stages, strict=True)):
        for axis, (title, values) in zip(line, stage.items(), strict=True):
            shown = show_image(axis, _stretched(values), title if index == 0 else "", cmap="viridis", vmin=0, vmax=1)
        line[0].set_ylabel(f"stage {index + 1}", labelpad=2)
    bar = figure.colorbar(shown, ax=axes[1:], shrink=0.5, pad=0.01, ticks=(0, 1))
    bar.ax.set_yticklabels(("least", "most"))
    return figure


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (1, 99))
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)


@styled()
def weights_figure(
    images: Mapping[str, UInt8[np.ndarray, "h w"]], masks: Mapping[str, Float[np.ndarray, "h w"]]
) -> Any:
    """Draws images, then as many maps in [0, 1] with their means in per cent, as a matplotlib Figure.

    Args:
        images: title -> image, the first row.
        masks: title -> map, the second row.

    Raises:
        ValueError: no images, or another number of masks.
    """
    if not images or len(masks) != len(images):
        raise ValueError(f"{len(images)} images need as many masks, and at least one")
    height, width = next(iter(images.values())).shape
    figure = new_figure(_WIDTH, 2 * (_WIDTH / len(images) * height / width + 0.22), _PAD)
    above, below = figure.subplots(2, len(images), squeeze=False)
    for axis, (title, image) in zip(above, images.items(), strict=True):
        show_image(axis, image, title)
    for axis, (title, mask) in zip(below, masks.items(), strict=True):
        show_image(axis, mask, f"{title}: {100 * mask.mean():.1f} %", cmap="gray", vmin=0, vmax=1)
    return figure


class Window(NamedTuple):
    """A square of frequencies, in cycles per pixel, of a spectrum with the zero frequency in its centre.

    Attributes:
        y: vertical frequency of its centre.
        x: horizontal frequency of its centre.
        side: its width and height.
    """

    y: float = 0.02
    x: float = 0.02
    side: float = 0.03


def change_phase(image: UInt8[np.ndarray, "h w"], window: Window = Window()) -> UInt8[np.ndarray, "h w"]:
    """Sets the phase to 0 in a window of the spectrum and leaves the amplitude as it is.

    Raises:
        ValueError: the window holds no frequency of an image of this size.
    """
    spectrum = np.fft.fft2(image)
    return _to_image(np.where(_window_mask(image.shape, window), np.abs(spectrum), spectrum))


def with_phase_of(amplitude: UInt8[np.ndarray, "h w"], phase: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Combines the amplitude spectrum of one image and the phase spectrum of another."""
    return _to_image(np.abs(np.fft.fft2(amplitude)) * np.exp(1j * np.angle(np.fft.fft2(phase))))


@styled()
def phase_figure(ir: UInt8[np.ndarray, "h w"], vis: UInt8[np.ndarray, "h w"], window: Window = Window()) -> Any:
    """Draws two demonstrations as a matplotlib Figure: `change_phase` of the infrared image, and phases exchanged.

    The titles say what share of the frequencies was set to 0 and what share of the pixels changed.

    Raises:
        ValueError: the window holds no frequency of an image of this size.
    """
    changed = change_phase(ir, window)
    difference = np.abs(changed.astype(np.int16) - ir)
    inside = _window_mask(ir.shape, window)
    phase = np.fft.fftshift(np.where(inside, 0.0, np.angle(np.fft.fft2(ir))))
    height, width = ir.shape
    cell = 1.7
    figure = new_figure(4 * cell, 2 * (cell * height / width + 0.22), _PAD)
    axes = figure.subplots(2, 4)
    show_image(axes[0, 0], ir, "IR")
    show_image(
        axes[0, 1], phase, f"phase, {100 * inside.mean():.2f} % set to 0",
        cmap="twilight", vmin=-np.pi, vmax=np.pi, extent=(-0.5, 0.5, 0.5, -0.5), aspect=height / width,
        interpolation="nearest",
    )  # fmt: skip
    # The window would be too small to see in the whole spectrum.
    reach = 2 * (max(abs(window.x), abs(window.y)) + window.side)
    axes[0, 1].set(xlim=(-reach, reach), ylim=(reach, -reach))
    show_image(axes[0, 2], changed, "transformed back")
    most = max(1.0, float(np.percentile(difference, 99.5)))
    share = 100 * np.mean(difference > 0)
    show_image(axes[0, 3], difference, f"{share:.0f} % of the pixels differ", cmap="magma", vmin=0, vmax=most)
    show_image(axes[1, 0], vis, "VIS")
    show_image(axes[1, 1], with_phase_of(ir, vis), "amplitude of IR, phase of VIS")
    show_image(axes[1, 2], with_phase_of(vis, ir), "amplitude of VIS, phase of IR")
    amplitude = np.fft.fftshift(np.log10(1 + np.abs(np.fft.fft2(ir))))
    show_image(axes[1, 3], amplitude, "amplitude of IR, kept (log)", cmap="magma", vmin=2, vmax=amplitude.max())
    return figure


def _window_mask(shape: tuple[int, ...], window: Window) -> np.ndarray:
    """Marks the window and its mirror image, which a real image needs; uncentred, as `fft2` orders frequencies.

    The zero frequency is never in it: its phase is the sign of the mean.
    """
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])
    inside = (abs(rows - window.y) <= window.side / 2) & (abs(columns - window.x) <= window.side / 2)
    inside |= (abs(rows + window.y) <= window.side / 2) & (abs(columns + window.x) <= window.side / 2)
    inside[0, 0] = False
    if not inside.any():
        raise ValueError(f"an image of {shape[0]}x{shape[1]} has no frequencies in {window}")
    return inside


def _to_image(spectrum: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(np.fft.ifft2(spectrum).real, 0, 255)).astype(np.uint8)
