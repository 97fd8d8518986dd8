"""Structural similarity of the fused image to its sources."""

import numpy as np
from jaxtyping import UInt8
from scipy.ndimage import uniform_filter

from rpfnet_jax.metrics.checks import check_gray8

_WINDOW = 7
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def ssim(a: UInt8[np.ndarray, "h w"], b: UInt8[np.ndarray, "h w"]) -> float:
    """Mean structural similarity (SSIM) with a 7 x 7 uniform window and sample covariances.

    Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Trans. Image Process. 13(4), with K1 = 0.01, K2 = 0.03 and
    L = 255; only windows that lie inside the image count. Equal to `structural_similarity(a, b)` of
    scikit-image with its default settings.

    Args:
        a: uint8 (h, w), at least 7 x 7.
        b: uint8 (h, w).

    Returns:
        A number in [-1, 1]; 1 for identical images, constant ones included. Symmetric.

    Raises:
        ValueError: not uint8 grey images of one size of at least 7 x 7 pixels.
    """
    check_gray8(a, b, min_size=_WINDOW)
    x, y = a.astype(np.float64), b.astype(np.float64)
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    mean_x, mean_y = uniform_filter(x, _WINDOW), uniform_filter(y, _WINDOW)
    variance_x = sample * (uniform_filter(x * x, _WINDOW) - mean_x * mean_x)
    variance_y = sample * (uniform_filter(y * y, _WINDOW) - mean_y * mean_y)
    covariance = sample * (uniform_filter(x * y, _WINDOW) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    margin = _WINDOW // 2
    return float(np.mean((luminance * structure)[margin:-margin, margin:-margin]))


def ssim_sum(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
) -> float:
    """SSIM(F, IR) + SSIM(F, VIS); see `ssim`.

    Args:
        fused: uint8 (h, w), at least 7 x 7.
        ir: uint8 (h, w).
        vis: uint8 (h, w).

    Returns:
        A number in [-2, 2].

    Raises:
        ValueError: not uint8 grey images of one size of at least 7 x 7 pixels.
    """
    check_gray8(fused, ir, vis, min_size=_WINDOW)
    return ssim(fused, ir) + ssim(fused, vis)
