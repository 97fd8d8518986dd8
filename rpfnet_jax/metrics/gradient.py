"""Differences of neighbouring pixels: spatial frequency, average gradient, and edge preservation (Qabf)."""

import numpy as np
from jaxtyping import UInt8
from scipy.ndimage import sobel

from rpfnet_jax.metrics.checks import Protocol, check_gray8, check_protocol

# Sigmoids of edge strength and orientation in Qabf: height, slope, centre.
_STRENGTH = (0.9994, -15.0, 0.5)
_ORIENTATION = (0.9879, -22.0, 0.8)


def spatial_frequency(image: UInt8[np.ndarray, "h w"], *, protocol: Protocol = "standard") -> float:
    """Spatial frequency: sqrt(RF² + CF²), root mean square of the first differences along both axes (SF).

    Eskicioglu and Fisher 1995, IEEE Trans. Commun. 43(12). Each mean is over the differences that exist:
    (h - 1)·w and h·(w - 1). `paper` is the uint8 arithmetic of MATLAB: negative differences saturate to 0,
    squares to 255; it depends on the direction of reading, so mirroring the image changes it.

    Args:
        image: uint8 (h, w), at least 2 x 2.
        protocol: "standard" or "paper".

    Returns:
        Grey levels (0-255 scale; toolboxes that work in [0, 1] print SF / 255); 0 for a constant image.

    Raises:
        ValueError: not a uint8 grey image of at least 2 x 2 pixels, or an unknown protocol.
    """
    check_gray8(image, min_size=2)
    check_protocol(protocol)
    power = 0.0
    for axis in (0, 1):
        difference = np.diff(image.astype(np.float64), axis=axis)
        if protocol == "paper":
            power += float(np.mean(np.minimum(np.maximum(difference, 0.0) ** 2, 255.0)))
        else:
            power += float(np.mean(difference**2))
    return float(np.sqrt(power))


def average_gradient(image: UInt8[np.ndarray, "h w"]) -> float:
    """Average gradient: the sum of sqrt((dx² + dy²) / 2) over (h - 1)·(w - 1) (AG).

    Cui, Feng, Xu, Li and Chen 2015, Optics Communications 341. The derivatives are central differences,
    one-sided at the border, at all h·w pixels (MATLAB's and NumPy's `gradient`); that the divisor is
    nevertheless (h - 1)·(w - 1) is the convention of the toolboxes, kept to be comparable. Evaluators that
    take one-sided differences everywhere print values about 30 % higher.

    Args:
        image: uint8 (h, w), at least 2 x 2.

    Returns:
        Grey levels per pixel (0-255 scale); 0 for a constant image.

    Raises:
        ValueError: not a uint8 grey image of at least 2 x 2 pixels.
    """
    check_gray8(image, min_size=2)
    dy, dx = np.gradient(image.astype(np.float64))
    height, width = image.shape
    return float(np.sum(np.sqrt((dx**2 + dy**2) / 2)) / ((height - 1) * (width - 1)))


def _sobel_exact(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    levels = image.astype(np.float64)
    return sobel(levels, axis=1, mode="constant"), -sobel(levels, axis=0, mode="constant")


def _sobel_matlab(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel responses on the [0, 1] scale, added in MATLAB's order.

    Most multiples of 1/255 are not exact in binary, so a response that should be 0 may come out as 1e-17, and
    then the orientation is noise instead of π/2. To reproduce a published Qabf the sum has to be taken in the
    same order: `conv2` goes through the kernel column by column, from the last element to the first.
    """
    height, width = image.shape
    padded = np.pad(image / 255.0, 1)
    dx = np.zeros(image.shape)
    dy = np.zeros(image.shape)
    smooth, slope = (1.0, 2.0, 1.0), (-1.0, 0.0, 1.0)
    for column in (2, 1, 0):
        for row in (2, 1, 0):
            shifted = padded[row : row + height, column : column + width]
            if slope[column]:
                dx += slope[column] * smooth[row] * shifted
            if slope[row]:
                dy -= slope[row] * smooth[column] * shifted
    return dx, dy


def _edges(image: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Strength (in the units of the image) and orientation (radians in [-π/2, π/2]) of the edges."""
    dx, dy = _sobel_matlab(image) if protocol == "paper" else _sobel_exact(image)
    flat = dx == 0
    orientation = np.where(flat, np.pi / 2, np.arctan(dy / np.where(flat, 1.0, dx)))
    return np.sqrt(dx**2 + dy**2), orientation


def _sigmoid(x: np.ndarray, parameters: tuple[float, float, float]) -> np.ndarray:
    height, slope, centre = parameters
    return height / (1 + np.exp(slope * (x - centre)))


def qabf(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
    *,
    protocol: Protocol = "standard",
) -> float:
    """Edge information carried from the sources into the fused image, weighted by edge strength (Qabf).

    Xydeas and Petrović 2000, Electronics Letters 36(4), with Gamma_g = 0.9994, kappa_g = -15, sigma_g = 0.5,
    Gamma_a = 0.9879, kappa_a = -22, sigma_a = 0.8 and L = 1. Sobel responses with zeros outside the image, as
    in every toolbox: the frame counts as an edge. Where the horizontal response is 0 the orientation is π/2.

    `standard` is exact arithmetic; equal strengths have ratio 1. `paper` is, to the last digit, what a common
    MATLAB toolbox computes: images in [0, 1] with their rounding noise, and where two strengths are equal
    their ratio is replaced by the strength itself. On fused photographs the two differ by about 0.001, but
    `paper` gives an exact copy of both sources as little as 0.4.

    Args:
        fused: uint8 (h, w).
        ir: uint8 (h, w).
        vis: uint8 (h, w).
        protocol: "standard" or "paper".

    Returns:
        A number in [0, 1); the sigmoids end at 0.975, which three equal images reach. If both sources are
        black everywhere there is no edge to keep, and the result is 0.0.

    Raises:
        ValueError: not uint8 grey images of one size, or an unknown protocol.
    """
    check_gray8(fused, ir, vis)
    check_protocol(protocol)
    strength_fused, orientation_fused = _edges(fused, protocol)
    kept = total = 0.0
    for source in (ir, vis):
        strength, orientation = _edges(source, protocol)
        weaker, stronger = np.minimum(strength, strength_fused), np.maximum(strength, strength_fused)
        ratio = weaker / np.where(stronger > 0, stronger, 1.0)
        tie = strength == strength_fused
        ratio = np.where(tie, strength if protocol == "paper" else 1.0, ratio)
        alignment = 1 - np.abs(orientation - orientation_fused) / (np.pi / 2)
        quality = _sigmoid(ratio, _STRENGTH) * _sigmoid(alignment, _ORIENTATION)
        kept += np.sum(quality * strength)
        total += np.sum(strength)
    return float(kept / total) if total > 0 else 0.0
