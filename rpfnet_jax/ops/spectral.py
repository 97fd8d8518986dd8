"""The spectral transforms of the FDFM: float32, any height and width.

The inverse transform receives spectra that are not Hermitian, since a convolution and a ReLU stand between the two
transforms. Its result is NumPy's definition: a full inverse transform over H, then a real inverse transform over W that
ignores the imaginary part of the first (and, for even W, last) column. JAX >= 0.10.0 agrees with NumPy and with torch
on CPU; older versions on GPU do not, hence the lower bound in pyproject.toml.

JAX's own transforms need a known size. Programs for any size (`rpfnet_jax.export`) multiply by matrices instead, which
costs more operations but is as exact.
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex64, Float32


def rfft2(x: Float32[Array, "b c h w"]) -> Complex64[Array, "b c h v"]:
    """Computes the orthonormal real 2-D FFT over height and width; v = w // 2 + 1."""
    chex.assert_rank(x, 4)
    height, width = x.shape[2:]
    if not _is_symbolic(height, width):
        return jnp.fft.rfft2(x, norm="ortho")
    cosine, sine = _matrix(jnp.arange(width), jnp.arange(width // 2 + 1), width)
    columns = jax.lax.complex(_product("bchw,wv->bchv", x, cosine), -_product("bchw,wv->bchv", x, sine))
    cosine, sine = _matrix(jnp.arange(height), jnp.arange(height), height)
    return _product("bchv,hk->bckv", columns, jax.lax.complex(cosine, -sine))


def irfft2(z: Complex64[Array, "b c h v"], size: tuple[int, int]) -> Float32[Array, "b c h w"]:
    """Inverts `rfft2`; `size` = (h, w) tells odd from even widths, which v does not."""
    height, width = size
    # A spectrum of another size would silently be cut or padded.
    if z.shape[2:] != (height, width // 2 + 1):
        raise ValueError(f"the spectrum of {height}x{width} images is {height}x{width // 2 + 1}, got {z.shape}")
    if not _is_symbolic(height, width):
        return jnp.fft.irfft2(z, s=size, norm="ortho")
    cosine, sine = _matrix(jnp.arange(height), jnp.arange(height), height)
    columns = _product("bckv,kh->bchv", z, jax.lax.complex(cosine, sine))
    kept = jnp.arange(width // 2 + 1)
    cosine, sine = _matrix(kept, jnp.arange(width), width)
    # All columns but the first and, of an even width, the last stand for their mirrored ones too.
    weights = jnp.where((kept == 0) | (2 * kept == width), jnp.float32(1), jnp.float32(2))[:, None]
    real = _product("bchv,vw->bchw", columns.real, weights * cosine)
    return real - _product("bchv,vw->bchw", columns.imag, weights * sine)


def _is_symbolic(*sizes: int) -> bool:
    return any(jax.export.is_symbolic_dim(size) for size in sizes)


def _product(equation: str, x: Array, matrix: Array) -> Array:
    # GPUs and TPUs would otherwise round the operands to 10 bits or fewer.
    return jnp.einsum(equation, x, matrix, precision=jax.lax.Precision.HIGHEST)


def _matrix(rows: Array, columns: Array, size: int) -> tuple[Array, Array]:
    """Computes cosine and sine over sqrt(size) of the angles 2 pi row column / size, for an orthonormal transform."""
    # Whole turns are taken away while the products are integers.
    count = jnp.asarray(size)
    angles = ((rows[:, None] * columns) % count).astype(jnp.float32) * (2 * math.pi / count.astype(jnp.float32))
    scale = jax.lax.rsqrt(count.astype(jnp.float32))
    return jnp.cos(angles) * scale, jnp.sin(angles) * scale


def to_channels(z: Complex64[Array, "b c h v"]) -> Float32[Array, "b d h v"]:
    """Turns real and imaginary parts into channels, interleaved: Re0, Im0, Re1, Im1, ... (d = 2c)."""
    batch, channels, height, width = z.shape
    return jnp.stack([z.real, z.imag], axis=2).reshape(batch, 2 * channels, height, width)


def from_channels(x: Float32[Array, "b d h v"]) -> Complex64[Array, "b c h v"]:
    """Inverts `to_channels`."""
    batch, channels, height, width = x.shape
    pairs = x.reshape(batch, channels // 2, 2, height, width)
    return jax.lax.complex(pairs[:, :, 0], pairs[:, :, 1])
