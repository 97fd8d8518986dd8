"""The FDFM's spectral transforms: pure functions, float32, any height and width.

The inverse gets spectra that are not Hermitian, since a convolution and a ReLU stand between the two transforms.
What it must compute then is numpy's definition: a full inverse transform over H, then a real inverse transform over
W that ignores the imaginary part of its first (and, for even W, last) column. JAX >= 0.10.0 agrees with numpy and
torch on CPU; older versions on GPU do not, hence the floor in pyproject.toml.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex64, Float32


def rfft2(x: Float32[Array, "b c h w"]) -> Complex64[Array, "b c h v"]:
    """Real 2-D FFT over height and width, orthonormal; v = w // 2 + 1."""
    return jnp.fft.rfft2(x, norm="ortho")


def irfft2(z: Complex64[Array, "b c h v"], size: tuple[int, int]) -> Float32[Array, "b c h w"]:
    """Inverse of `rfft2`; `size` = (h, w) is needed because v does not tell odd from even widths."""
    return jnp.fft.irfft2(z, s=size, norm="ortho")


def to_channels(z: Complex64[Array, "b c h v"]) -> Float32[Array, "b d h v"]:
    """Real and imaginary parts as channels, interleaved per channel: Re0, Im0, Re1, Im1, ... (d = 2c)."""
    batch, channels, height, width = z.shape
    return jnp.stack([z.real, z.imag], axis=2).reshape(batch, 2 * channels, height, width)


def from_channels(x: Float32[Array, "b d h v"]) -> Complex64[Array, "b c h v"]:
    """Inverse of `to_channels`."""
    batch, channels, height, width = x.shape
    pairs = x.reshape(batch, channels // 2, 2, height, width)
    return jax.lax.complex(pairs[:, :, 0], pairs[:, :, 1])
