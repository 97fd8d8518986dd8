"""Normalisation of feature maps, and the closed form of its gradient over a batch."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# torch.nn.BatchNorm2d's default, which the authors use.
EPSILON = 1e-5


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: Float[Array, "b _ _ _"],
    scale: Float[Array, "*c"],
    bias: Float[Array, "*c"],
    axes: tuple[int, ...],
    spread: str | None = None,
) -> tuple[Float[Array, "b _ _ _"], Float[Array, "1 _ _ _"], Float[Array, "1 _ _ _"]]:
    """Normalises by the batch's own statistics. Differentiable in reverse mode, with respect to y.

    The gradient is the closed form, two sums over the pixels; the one that JAX derives from the forward pass takes
    another pass for the derivative of the variance by the mean, which is zero.

    Args:
        x: feature maps.
        scale: factor of each channel, as `along` shapes it.
        bias: summand of each channel, likewise.
        axes: those of the batch and the pixels.
        spread: the mesh axis that the batch is spread over, if any.

    Returns:
        y, and the mean and biased variance of each channel, which must not be differentiated.
    """
    mean, var = moments(x, axes, spread)
    return normalised(x, mean, jax.lax.rsqrt(var + EPSILON) * scale, bias), mean, var


def _batch_norm_forward(
    x: Array, scale: Array, bias: Array, axes: tuple[int, ...], spread: str | None
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    y, mean, var = batch_norm(x, scale, bias, axes, spread)
    return (y, mean, var), (x, scale, mean, var)


def _batch_norm_backward(
    axes: tuple[int, ...], spread: str | None, saved: tuple[Array, ...], cotangents: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    x, scale, mean, var = saved
    dy, *_ = cotangents
    inverse = jax.lax.rsqrt(var + EPSILON)
    # Means over what is on this device, of dy and of dy * (x - mean).
    plain = jnp.mean(dy, axes, keepdims=True)
    tilted = jnp.mean(dy * x, axes, keepdims=True) - mean * plain
    count = x.size // mean.size
    dbias, dscale = (plain * count).reshape(scale.shape), (tilted * inverse * count).reshape(scale.shape)
    if spread:
        plain, tilted = jax.lax.pmean((plain, tilted), spread)
    # gain * (dy - plain - (x - mean) * inverse^2 * tilted), by channel linear in dy and x.
    gain = inverse * scale
    slope = -gain * jnp.square(inverse) * tilted
    return gain * dy + (slope * x - (gain * plain + slope * mean)), dscale, dbias


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def moments(x: Array, axes: tuple[int, ...], spread: str | None = None) -> tuple[Array, Array]:
    """Mean and biased variance over the axes, which are kept; in two passes, as E[x^2] - E[x]^2 loses digits."""
    mean = _mean(x, axes, spread)
    return mean, _mean(jnp.square(x - mean), axes, spread)


def normalised(x: Array, mean: Array | np.ndarray, gain: Array, bias: Array | np.ndarray) -> Array:
    """gain * (x - mean) + bias."""
    # Scale and shift per channel: with x - mean written out, XLA on CPU stores it, a pass over all pixels more.
    return x * gain + (bias - mean * gain)


def _mean(x: Array, axes: tuple[int, ...], spread: str | None) -> Array:
    mean = jnp.mean(x, axes, keepdims=True)
    return jax.lax.pmean(mean, spread) if spread else mean
