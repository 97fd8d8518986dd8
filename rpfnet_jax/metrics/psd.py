"""Power spectral density: how a picture's energy is spread over the spatial frequencies (the paper's Figure 6).

The paper prints no formulas; these definitions are this project's own. The PSD is |FFT2(F - mean F)|² of the grey
levels 0-255, centred. Without the mean, its zero frequency is 0 always, so it is left out wherever values are compared
or averaged.
"""

import numpy as np
from jaxtyping import Float, UInt8
from scipy.fft import fft2, fftfreq, fftshift

from rpfnet_jax.metrics.inputs import check_gray8

RINGS = 64
"""Rings of `radial_profile`, up to half a cycle per pixel."""


def power_spectrum(image: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The centred PSD |FFT2(F - mean F)|²; the zero frequency, at (h // 2, w // 2), is 0.

    Args:
        image: uint8 (h, w).

    Returns:
        float64 (h, w), squared grey levels; its mean is h·w times the variance of the image.

    Raises:
        ValueError: not a uint8 grey image.
    """
    check_gray8(image)
    levels = image.astype(np.float64)
    power = fftshift(np.abs(fft2(levels - levels.mean())) ** 2)
    # Rounding leaves a little.
    power[tuple(side // 2 for side in power.shape)] = 0.0
    return power


def log_spectrum(image: UInt8[np.ndarray, "h w"], size: int | None = None) -> Float[np.ndarray, "y x"]:
    """The PSD as it is shown: log10(1 + PSD), centred.

    Args:
        image: uint8 (h, w).
        size: average into size x size cells of equal frequency, so that spectra of pictures of different sizes can be
            averaged; None keeps (h, w).

    Returns:
        float64, (h, w) or (size, size).

    Raises:
        ValueError: not a uint8 grey image, or a side is shorter than `size`.
    """
    spectrum = np.log10(1 + power_spectrum(image))
    if size is None:
        return spectrum
    if not 0 < size <= min(image.shape):
        raise ValueError(f"a spectrum of {image.shape} has no {size}x{size} cells")
    for axis in (0, 1):
        starts = [-(-cell * spectrum.shape[axis] // size) for cell in range(size)]
        lengths = np.diff([*starts, spectrum.shape[axis]])
        spectrum = np.add.reduceat(spectrum, starts, axis) / (lengths[:, None] if axis == 0 else lengths)
    return spectrum


def radial_profile(image: UInt8[np.ndarray, "h w"], rings: int = RINGS) -> Float[np.ndarray, " rings"]:
    """Mean of PSD / (h·w) over rings of equal spatial frequency, from low to high.

    Args:
        image: uint8 (h, w).
        rings: how many of equal width between 0 and 0.5 cycles per pixel; ring k holds k·width ≤ f < (k + 1)·width.

    Returns:
        float64 (rings,), squared grey levels, comparable between sizes; NaN where a small picture has no frequency.

    Raises:
        ValueError: not a uint8 grey image, or no ring.
    """
    if rings < 1:
        raise ValueError(f"a radial profile needs at least one ring, got {rings}")
    power = power_spectrum(image) / image.size
    rows, columns = (fftshift(fftfreq(side)) for side in image.shape)
    ring = np.floor(np.hypot(rows[:, None], columns) * 2 * rings).astype(np.intp)
    # The corners beyond 0.5 cycles per pixel hold diagonals only; the zero frequency is no part of the picture's power.
    inside = ring < rings
    inside[tuple(side // 2 for side in image.shape)] = False
    counts = np.bincount(ring[inside], minlength=rings)
    total = np.bincount(ring[inside], power[inside], minlength=rings)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def spectral_entropy(image: UInt8[np.ndarray, "h w"]) -> float:
    """Shannon entropy of the PSD as a distribution over frequencies: -sum p·log2 p with p = PSD / sum PSD.

    Args:
        image: uint8 (h, w).

    Returns:
        Bits, in [0, log2(h·w - 1)], so it grows with the size of a picture: compare methods on the same ones. White
        noise is high, a smooth picture low, a constant one 0.
    """
    power = power_spectrum(image)
    total = power.sum()
    if total == 0:
        return 0.0
    p = power[power > 0] / total
    return float(0.0 - np.sum(p * np.log2(p)))


def spectral_fidelity(fused: UInt8[np.ndarray, "h w"], source: UInt8[np.ndarray, "h w"]) -> float:
    """Pearson correlation of the two pictures' log spectra, over all frequencies but zero.

    With the infrared source it is called infrared fidelity, with the visible one visible fidelity. Phase does not
    count: a shifted copy has nearly the fidelity of a copy.

    Args:
        fused: uint8 (h, w).
        source: uint8 (h, w).

    Returns:
        A number in [-1, 1]; 1 for a copy; 0.0 if one picture is constant.

    Raises:
        ValueError: not uint8 grey images of one size.
    """
    check_gray8(fused, source)
    centre = fused.shape[0] // 2 * fused.shape[1] + fused.shape[1] // 2
    a, b = (np.delete(log_spectrum(image).ravel(), centre) for image in (fused, source))
    if a.size == 0 or not (a.any() and b.any()):
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b) / norm) if norm > 0 else 0.0
