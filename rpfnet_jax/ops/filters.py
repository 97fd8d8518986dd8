"""Image filters: the starlet transform and the Sobel operator."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.ops import Images

# The B3 spline.
SPLINE_TAPS = (1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16)
# Added under the root of the Sobel magnitude, as in the released code: keeps its gradient finite in flat regions.
_SOBEL_EPSILON = 1e-6


def starlet(image: Images, scales: int) -> Float[Array, "b h w s"]:
    """Computes an image's details by scale at full resolution, finest scale first.

    These are the wavelet coefficients of the undecimated ("à trous") transform with the B3 spline (Starck, Fadili &
    Murtagh 2007): scale j is the difference between the result of the scale before and that result smoothed with taps
    2^j pixels apart. The image is the sum of its details and the last smoothing. Borders are mirrored.

    Args:
        image: in any range.
        scales: s; the last scale's smoothing reaches 2^(s + 1) - 2 pixels.
    """
    chex.assert_shape(image, (None, None, None, 1))
    details = []
    for scale in range(scales):
        smooth = _smooth(_smooth(image, 1, 2**scale), 2, 2**scale)
        details.append(image - smooth)
        image = smooth
    return jnp.concatenate(details, -1)


def _smooth(image: Array, axis: int, distance: int) -> Array:
    """Smooths along one axis with taps `distance` pixels apart."""
    size, reach = image.shape[axis], 2 * distance
    padded = jnp.pad(image, [(reach, reach) if n == axis else (0, 0) for n in range(4)], mode="symmetric")
    # Slices instead of a convolution: with one channel XLA's takes several times as long on a CPU.
    shifted = (
        jax.lax.slice_in_dim(padded, n * distance, n * distance + size, axis=axis) for n in range(len(SPLINE_TAPS))
    )
    return functools.reduce(jnp.add, (tap * part for tap, part in zip(SPLINE_TAPS, shifted, strict=True)))


def sobel(x: Images) -> tuple[Images, Images]:
    """Computes the derivatives (gx, gy) by the unnormalised 3x3 Sobel operator with zero padding."""
    chex.assert_rank(x, 4)
    height, width = x.shape[1], x.shape[2]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Shifted sums instead of a convolution: XLA fuses them into one pass over the image.
    column = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    row = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    gx = column[:, :, 2:] - column[:, :, :width]
    gy = row[:, 2:] - row[:, :height]
    return gx, gy


def sobel_magnitude(x: Images) -> Images:
    """Computes s(x) = sqrt(gx^2 + gy^2 + 1e-6) from the derivatives of `sobel`."""
    gx, gy = sobel(x)
    return jnp.sqrt(jnp.square(gx) + jnp.square(gy) + _SOBEL_EPSILON)
