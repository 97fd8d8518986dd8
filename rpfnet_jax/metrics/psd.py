"""Power spectral density: how an image's energy is spread over the spatial frequencies (the paper's Figure 6).

The paper prints no formulas; these definitions are this project's own. The PSD is |FFT2(F - mean F)|² of the grey
levels 0-255, centred. Its zero frequency is always 0, since the mean is subtracted, and is left out wherever values are
compared or averaged.
"""

import numpy as np
from jaxtyping import Float
from scipy.fft import fft2, fftfreq, fftshift

from rpfnet_jax.metrics.inputs import Gray, check_gray8


def power_spectrum(image: Gray) -> Float[np.ndarray, "h w"]:
    """Computes the centred PSD `|FFT2(F - mean F)|²`; the zero frequency is at (h // 2, w // 2).

    Returns:
        Squared grey levels; their mean is h·w times the variance of the image.
    """
    check_gray8(image)
    levels = image.astype(np.float64)
    power = fftshift(np.abs(fft2(levels - levels.mean())) ** 2)
    # Rounding leaves a little.
    power[_centre(power)] = 0.0
    return power


def log_spectrum(image: Gray, size: int | None = None) -> Float[np.ndarray, "y x"]:
    """Computes the PSD as it is shown: log10(1 + PSD), centred.

    Args:
        image: the image.
        size: average into size x size cells of equal frequency, so that spectra of images of different sizes can be
            averaged; None keeps (h, w).

    Raises:
        ValueError: a side of the image is shorter than `size`.
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


def radial_profile(image: Gray, rings: int = 64) -> Float[np.ndarray, " rings"]:
    """Averages PSD / (h·w) over rings of equal spatial frequency, from low to high.

    Args:
        image: the image.
        rings: number of equally wide rings between 0 and 0.5 cycles per pixel; ring k: k·width ≤ f < (k + 1)·width.

    Returns:
        Squared grey levels, comparable between sizes; NaN in rings where a small image has no frequency.

    Raises:
        ValueError: there are no rings.
    """
    if rings < 1:
        raise ValueError(f"a radial profile needs at least one ring, got {rings}")
    power = power_spectrum(image) / image.size
    rows, columns = (fftshift(fftfreq(side)) for side in image.shape)
    ring = np.floor(np.hypot(rows[:, None], columns) * 2 * rings).astype(np.intp)
    # The corners beyond 0.5 cycles per pixel hold diagonals only.
    inside = ring < rings
    inside[_centre(power)] = False
    counts = np.bincount(ring[inside], minlength=rings)
    total = np.bincount(ring[inside], power[inside], minlength=rings)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def spectral_entropy(image: Gray) -> float:
    """Computes the Shannon entropy of the PSD as a distribution over frequencies: -Σ p·log2 p with p = PSD / Σ PSD.

    Returns:
        Bits, in [0, log2(h·w - 1)], so it grows with the size: compare methods on the same images. White noise is high,
        a smooth image low, a constant one 0.
    """
    power = power_spectrum(image)
    total = power.sum()
    if total == 0:
        return 0.0
    p = power[power > 0] / total
    return float(0.0 - np.sum(p * np.log2(p)))


def spectral_fidelity(fused: Gray, source: Gray) -> float:
    """Computes the Pearson correlation of two log spectra, over all frequencies but zero.

    With the infrared source it is called infrared fidelity, with the visible one visible fidelity. Phase does not
    count: a shifted copy has nearly the fidelity of a copy.

    Returns:
        A number in [-1, 1]; 1 for a copy; 0 if one image is constant.
    """
    check_gray8(fused, source)
    centre = np.ravel_multi_index(_centre(fused), fused.shape)
    a, b = (np.delete(log_spectrum(image).ravel(), centre) for image in (fused, source))
    if a.size == 0 or not (a.any() and b.any()):
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b) / norm) if norm > 0 else 0.0


def _centre(spectrum: np.ndarray) -> tuple[int, int]:
    return spectrum.shape[0] // 2, spectrum.shape[1] // 2
