"""First and second order statistics: spread, correlation, and the correlation of differences."""

import numpy as np
from jaxtyping import UInt8

from rpfnet_jax.metrics.checks import Protocol, check_gray8, check_protocol


def standard_deviation(image: UInt8[np.ndarray, "h w"], *, protocol: Protocol = "standard") -> float:
    """Standard deviation of the grey levels (SD).

    `standard` is the population standard deviation. `paper` is what MATLAB computes if the image is left in
    uint8: differences from the mean are rounded and negative ones saturate to 0, squares saturate to 255. It
    is bounded by sqrt(255) and is the "SD" of about 10 that the fusion literature prints.

    Args:
        image: uint8 (h, w).
        protocol: "standard" or "paper".

    Returns:
        Grey levels (0-255 scale): in [0, 127.5] for `standard`, in [0, 15.97] for `paper`; 0 if constant.

    Raises:
        ValueError: not a uint8 grey image, or an unknown protocol.
    """
    check_gray8(image)
    check_protocol(protocol)
    levels = image.astype(np.float64)
    if protocol == "standard":
        return float(levels.std())
    # MATLAB's conversion to uint8 rounds halves up, unlike np.rint.
    above = np.clip(np.floor(levels - levels.mean() + 0.5), 0, 255)
    return float(np.sqrt(np.mean(np.minimum(above**2, 255.0))))


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a = a - a.mean()
    b = b - b.mean()
    norm = np.sqrt(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b) / norm) if norm > 0 else 0.0


def correlation_coefficient(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
) -> float:
    """Mean Pearson correlation of the fused image with the two sources: (r(IR, F) + r(VIS, F)) / 2 (CC).

    Ma, Ma and Li 2019, Information Fusion 45. The same in both protocols.

    Args:
        fused: uint8 (h, w).
        ir: uint8 (h, w).
        vis: uint8 (h, w).

    Returns:
        A number in [-1, 1]. The correlation with a constant image is not defined; it counts as 0.0.

    Raises:
        ValueError: not uint8 grey images of one size.
    """
    check_gray8(fused, ir, vis)
    f, i, v = (image.astype(np.float64) for image in (fused, ir, vis))
    return (_pearson(i, f) + _pearson(v, f)) / 2


def scd(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
) -> float:
    """Sum of the correlations of differences: r(F - VIS, IR) + r(F - IR, VIS) (SCD).

    Aslantas and Bendes 2015, AEÜ 69(12). Differences are signed. The same in both protocols.

    Args:
        fused: uint8 (h, w).
        ir: uint8 (h, w).
        vis: uint8 (h, w).

    Returns:
        A number in [-2, 2]. A correlation with a constant image or difference is not defined and counts
        as 0.0.

    Raises:
        ValueError: not uint8 grey images of one size.
    """
    check_gray8(fused, ir, vis)
    f, i, v = (image.astype(np.float64) for image in (fused, ir, vis))
    return _pearson(f - v, i) + _pearson(f - i, v)
