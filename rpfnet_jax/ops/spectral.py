"""The spectral transforms of the FDFM: float32, any height and width.

The inverse transform receives spectra that are not Hermitian, since a convolution and a ReLU stand between the two
transforms. Its result is NumPy's definition: a full inverse transform over H, then a real inverse transform over W that
ignores the imaginary part of the first (and, for even W, last) column. JAX >= 0.10.0 agrees with NumPy and with torch
on CPU; older versions on GPU do not, hence the lower bound in pyproject.toml.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex64, Float32


def rfft2(x: Float32[Array, "b c h w"]) -> Complex64[Array, "b c h v"]:
    """Computes the orthonormal real 2-D FFT over height and width; v = w // 2 + 1."""
    chex.assert_rank(x, 4)
    return jnp.fft.rfft2(x, norm="ortho")


def irfft2(z: Complex64[Array, "b c h v"], size: tuple[int, int]) -> Float32[Array, "b c h w"]:
    """Inverts `rfft2`; `size` = (h, w) tells odd from even widths, which v does not."""
    # A spectrum of another size would silently be cut or padded.
    chex.assert_shape(z, (None, None, size[0], size[1] // 2 + 1))
    return jnp.fft.irfft2(z, s=size, norm="ortho")


def to_channels(z: Complex64[Array, "b c h v"]) -> Float32[Array, "b d h v"]:
    """Turns real and imaginary parts into channels, interleaved: Re0, Im0, Re1, Im1, ... (d = 2c)."""
    batch, channels, height, width = z.shape
    return jnp.stack([z.real, z.imag], axis=2).reshape(batch, 2 * channels, height, width)


def from_channels(x: Float32[Array, "b d h v"]) -> Complex64[Array, "b c h v"]:
    """Inverts `to_channels`."""
    batch, channels, height, width = x.shape
    pairs = x.reshape(batch, channels // 2, 2, height, width)
    return jax.lax.complex(pairs[:, :, 0], pairs[:, :, 1])
