"""Fusion in a Laplacian pyramid."""

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import convolve1d

from rpfnet_jax.baselines.checks import MIN_SIZE, check_sources

# The generating kernel of Burt and Adelson with a = 0.4, the one closest to a Gaussian.
_KERNEL = np.array([0.05, 0.25, 0.4, 0.25, 0.05])


def laplacian(ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Laplacian-pyramid fusion: at each scale the stronger detail, at the coarsest the mean.

    Pyramid: Burt and Adelson 1983, IEEE Trans. Commun. 31(4), a = 0.4, mirrored at the border; a level has
    half the size of the one below, rounded up. Rule: of two details the one of larger absolute value (the
    infrared one where they are equal), of the coarsest level the average. The number of levels is :func:`depth`.

    Args:
        ir: infrared picture, float32 (h, w) in [0, 1].
        vis_y: luminance of the visible picture, likewise.

    Returns:
        float32 (h, w), clipped to [0, 1]; two equal sources come back up to rounding.

    Raises:
        ValueError: see `check_sources`.
    """
    check_sources(ir, vis_y)
    levels = depth(*ir.shape)
    *ir_details, ir_base = decompose(ir, levels)
    *vis_details, vis_base = decompose(vis_y, levels)
    details = [np.where(np.abs(a) >= np.abs(b), a, b) for a, b in zip(ir_details, vis_details, strict=True)]
    return np.clip(reconstruct([*details, (ir_base + vis_base) / 2]), 0, 1).astype(np.float32)


def depth(height: int, width: int) -> int:
    """Number of detail levels for a picture of this size.

    Args:
        height: rows, at least 1.
        width: columns, at least 1.

    Returns:
        The largest d for which the shorter side is at least 8·2^d pixels; 0 below 16.
    """
    return max(0, (min(height, width) // (MIN_SIZE // 2)).bit_length() - 1)


def decompose(picture: Float32[np.ndarray, "h w"], levels: int) -> list[np.ndarray]:
    """Laplacian pyramid of a picture (Burt and Adelson 1983, Eq. 1-3).

    Args:
        picture: float32 (h, w).
        levels: number of detail levels, at least 0.

    Returns:
        float64 arrays: the details from fine to coarse, then the base.
    """
    pyramid = []
    level = picture.astype(np.float64)
    for _ in range(levels):
        coarse = _reduce(level)
        pyramid.append(level - _expand(coarse, level.shape))
        level = coarse
    return [*pyramid, level]


def reconstruct(pyramid: list[np.ndarray]) -> np.ndarray:
    """Inverse of :func:`decompose` (Burt and Adelson 1983, Eq. 4).

    Args:
        pyramid: what `decompose` returned, or coefficients of the same shapes.

    Returns:
        float64 (h, w).
    """
    *details, picture = pyramid
    for detail in reversed(details):
        picture = _expand(picture, detail.shape) + detail
    return picture


def _reduce(level: np.ndarray) -> np.ndarray:
    return _filter(level, _KERNEL)[::2, ::2]


def _expand(coarse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    spread = np.zeros(shape)
    spread[::2, ::2] = coarse
    # Half of the samples are zeros along each axis, hence twice the kernel.
    return _filter(spread, 2 * _KERNEL)


def _filter(level: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    # "mirror" keeps even samples on even places beyond the border; "reflect" would mix them with the zeros.
    for axis in (0, 1):
        level = convolve1d(level, kernel, axis=axis, mode="mirror")
    return level
