"""Structural similarity of the fused image to its sources, at one scale (SSIM) and at five (MS-SSIM)."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.ndimage import correlate1d, uniform_filter

from rpfnet_jax.metrics.inputs import Columns, Gray, GrayBatch, check_batch, check_gray8
from rpfnet_jax.metrics.windows import average, moments, named

WINDOW = 7
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2

GAUSSIAN = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
GAUSSIAN /= GAUSSIAN.sum()
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

MS_SSIM_MIN_SIZE = 161
"""Smallest height and width, in pixels, for which the coarsest of the five scales still holds one window."""


def ssim(a: Gray, b: Gray) -> float:
    """Computes the mean structural similarity (SSIM) with a 7 x 7 uniform window and sample covariances.

    Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Trans. Image Process. 13(4), with K1 = 0.01, K2 = 0.03 and L = 255;
    only windows that lie inside the image count, so images need at least 7 x 7 pixels. Equal to scikit-image's
    `structural_similarity(a, b)` with its default settings.

    Returns:
        A number in [-1, 1]; 1 for identical images, constant ones included. Symmetric.
    """
    check_gray8(a, b, min_size=WINDOW)
    x, y = a.astype(np.float64), b.astype(np.float64)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = uniform_filter(x, WINDOW), uniform_filter(y, WINDOW)
    variance_x = sample * (uniform_filter(x * x, WINDOW) - mean_x * mean_x)
    variance_y = sample * (uniform_filter(y * y, WINDOW) - mean_y * mean_y)
    covariance = sample * (uniform_filter(x * y, WINDOW) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (variance_x + variance_y + C2)
    margin = WINDOW // 2
    return float(np.mean((luminance * structure)[margin:-margin, margin:-margin]))


def ssim_sum(fused: Gray, ir: Gray, vis: Gray) -> float:
    """Computes SSIM(F, IR) + SSIM(F, VIS), in [-2, 2]; see `ssim`."""
    return ssim(fused, ir) + ssim(fused, vis)


def ms_ssim(a: Gray, b: Gray) -> float:
    """Computes the multi-scale structural similarity (MS-SSIM).

    Wang, Simoncelli and Bovik 2003 (Asilomar), five scales with weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333, finest
    first; windows 11 x 11, Gaussian with sigma 1.5, only those inside the image; K1, K2 and L as for `ssim`. The next
    scale averages blocks of 2 x 2 pixels; of an odd side the last row or column counts twice, as in Wang's code. The
    product takes the mean contrast-structure term of the four finer scales and the mean SSIM of the coarsest; a
    negative mean counts as 0. Images need at least 161 x 161 pixels: fewer scales would be another measure.

    Returns:
        A number in [0, 1]; 1 for identical images, constant ones included. Symmetric.
    """
    check_gray8(a, b, min_size=MS_SSIM_MIN_SIZE)
    x, y = a.astype(np.float64), b.astype(np.float64)
    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale > 0:
            x, y = _halve(x), _halve(y)
        luminance, structure = _gaussian_ssim(x, y)
        coarsest = scale == len(SCALE_WEIGHTS) - 1
        mean = np.mean(luminance * structure) if coarsest else np.mean(structure)
        product *= max(float(mean), 0.0) ** weight
    return product


def ms_ssim_sum(fused: Gray, ir: Gray, vis: Gray) -> float:
    """Computes MS-SSIM(F, IR) + MS-SSIM(F, VIS), in [0, 2]; see `ms_ssim`."""
    return ms_ssim(fused, ir) + ms_ssim(fused, vis)


def _gaussian_ssim(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the luminance and the contrast-structure term of every Gaussian window."""

    def blur(image: np.ndarray) -> np.ndarray:
        rows = correlate1d(image, GAUSSIAN, axis=0)[5:-5]
        return correlate1d(rows, GAUSSIAN, axis=1)[:, 5:-5]

    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _halve(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    even = np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def structure(fused: GrayBatch, ir: GrayBatch, vis: GrayBatch) -> Columns:
    """Twin of the columns `ssim` and `ms_ssim`; the latter is NaN below 161 x 161 pixels."""
    check_batch(fused, ir, vis)
    images = named(fused, ir, vis)
    uniform = _window_terms(images, [1 / WINDOW] * WINDOW, sample=WINDOW**2 / (WINDOW**2 - 1))
    ssims = [average(luminance * structure) for luminance, structure in uniform]
    columns = {"ssim": ssims[0] + ssims[1]}
    if min(fused.shape[1:]) < MS_SSIM_MIN_SIZE:
        return columns | {"ms_ssim": jnp.full(len(fused), jnp.nan)}
    products = [jnp.ones(len(fused))] * 2
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale > 0:
            images = {name: _batch_halve(image) for name, image in images.items()}
        coarsest = scale == len(SCALE_WEIGHTS) - 1
        for side, (luminance, structure) in enumerate(_window_terms(images, GAUSSIAN.tolist())):
            mean = average(luminance * structure if coarsest else structure)
            products[side] *= jnp.maximum(mean, 0.0) ** weight
    return columns | {"ms_ssim": products[0] + products[1]}


def _window_terms(images: dict[str, Array], taps: Sequence[float], sample: float = 1.0) -> list[tuple[Array, Array]]:
    """Computes both terms of every window, for IR and for VIS; `sample` corrects the covariances."""
    mean, covariance = moments(images, taps)
    terms = []
    for side in ("ir", "vis"):
        variances = covariance[side, side] + covariance["fused", "fused"]
        structure = (2 * sample * covariance[side, "fused"] + C2) / (sample * variances + C2)
        luminance = (2 * mean[side] * mean["fused"] + C1) / (mean[side] ** 2 + mean["fused"] ** 2 + C1)
        terms.append((luminance, structure))
    return terms


def _batch_halve(image: Array) -> Array:
    even = jnp.pad(image, ((0, 0), (0, image.shape[1] % 2), (0, image.shape[2] % 2)), mode="edge")
    batch, height, width = even.shape
    return even.reshape(batch, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
