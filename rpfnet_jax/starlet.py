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
