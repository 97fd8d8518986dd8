"""The starlet transform: an image's details by scale, at full resolution."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# The B3 spline.
_TAPS = (1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16)


def details(image: Float[Array, "b h w 1"], scales: int) -> Float[Array, "b h w s"]:
    """The wavelet coefficients of the undecimated ("à trous") transform with the B3 spline, finest scale first.

    Scale j is what smoothing with taps 2^j pixels apart takes away from the result of the scale before (Starck, Fadili
    & Murtagh 2007). The image is the sum of its details and the last smoothing. Borders are mirrored.

    Args:
        image: any range.
        scales: their number; the last one's smoothing reaches 2^(scales + 1) - 2 pixels.
    """
    found = []
    for scale in range(scales):
        smooth = _smooth(_smooth(image, 1, 2**scale), 2, 2**scale)
        found.append(image - smooth)
        image = smooth
    return jnp.concatenate(found, -1)


def _smooth(image: Array, axis: int, distance: int) -> Array:
    """With the taps along one axis, `distance` pixels apart."""
    size, reach = image.shape[axis], 2 * distance
    padded = jnp.pad(image, [(reach, reach) if n == axis else (0, 0) for n in range(4)], mode="symmetric")
    # Slices, not a convolution: with one channel XLA's takes several times as long on a CPU.
    return functools.reduce(
        jnp.add,
        (
            tap * jax.lax.slice_in_dim(padded, n * distance, n * distance + size, axis=axis)
            for n, tap in enumerate(_TAPS)
        ),
    )


# Under the root of the Sobel magnitude (released code): keeps its gradient finite on flat regions.
SOBEL_EPSILON = 1e-6


def sobel(x: Float[Array, "b h w 1"]) -> tuple[Float[Array, "b h w 1"], Float[Array, "b h w 1"]]:
    """Derivatives (gx, gy) by the unnormalised 3x3 Sobel operator with zero padding."""
    height, width = x.shape[1], x.shape[2]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Shifted sums instead of a convolution: XLA fuses them into one pass over the image.
    column = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    row = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    gx = column[:, :, 2:] - column[:, :, :width]
    gy = row[:, 2:] - row[:, :height]
    return gx, gy


def sobel_magnitude(x: Float[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """s(x) = sqrt(gx^2 + gy^2 + 1e-6) of `sobel`."""
    gx, gy = sobel(x)
    return jnp.sqrt(jnp.square(gx) + jnp.square(gy) + SOBEL_EPSILON)
