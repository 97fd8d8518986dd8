"""Batch normalisation of feature maps with a closed-form gradient."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Default of torch.nn.BatchNorm2d, which the authors use.
EPSILON = 1e-5


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: Float[Array, "b _ _ _"],
    scale: Float[Array, "*c"],
    bias: Float[Array, "*c"],
    axes: tuple[int, ...],
    axis_name: str | None = None,
) -> tuple[Float[Array, "b _ _ _"], Float[Array, "1 _ _ _"], Float[Array, "1 _ _ _"]]:
    """Normalises feature maps by the statistics of their own batch. Differentiable in reverse mode, in y only.

    The gradient is written in closed form with two sums over the pixels. The one that JAX derives takes another pass
    over all pixels for the derivative of the variance with respect to the mean, which is zero.

    Args:
        x: feature maps.
        scale: factor per channel, shaped to broadcast against x.
        bias: summand per channel, shaped likewise.
        axes: the axes of x to average over, those of batch and pixels.
        axis_name: mesh axis over which the batch is sharded, if any.

    Returns:
        y, and the mean and biased variance of each channel, which must not be differentiated.
    """
    chex.assert_rank(x, 4)
    mean, var = moments(x, axes, axis_name)
    for values in (scale, bias):
        chex.assert_is_broadcastable(values.shape, mean.shape)
    return normalised(x, mean, jax.lax.rsqrt(var + EPSILON) * scale, bias), mean, var


def _forward(
    x: Array, scale: Array, bias: Array, axes: tuple[int, ...], axis_name: str | None
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    y, mean, var = batch_norm(x, scale, bias, axes, axis_name)
    return (y, mean, var), (x, scale, mean, var)


def _backward(
    axes: tuple[int, ...], axis_name: str | None, saved: tuple[Array, ...], cotangents: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    x, scale, mean, var = saved
    dy, *_ = cotangents
    inverse = jax.lax.rsqrt(var + EPSILON)
    # Means over this device's part of the batch, of dy and of dy * (x - mean).
    mean_dy = jnp.mean(dy, axes, keepdims=True)
    mean_product = jnp.mean(dy * x, axes, keepdims=True) - mean * mean_dy
    count = x.size // mean.size
    dbias = (mean_dy * count).reshape(scale.shape)
    dscale = (mean_product * inverse * count).reshape(scale.shape)
    if axis_name:
        mean_dy, mean_product = jax.lax.pmean((mean_dy, mean_product), axis_name)
    # dx = gain * (dy - mean_dy - (x - mean) * inverse^2 * mean_product), rearranged to be linear in dy and x.
    gain = inverse * scale
    slope = -gain * jnp.square(inverse) * mean_product
    return gain * dy + (slope * x - (gain * mean_dy + slope * mean)), dscale, dbias


batch_norm.defvjp(_forward, _backward)


def moments(x: Array, axes: tuple[int, ...], axis_name: str | None = None) -> tuple[Array, Array]:
    """Computes mean and biased variance over `axes`, keeping them; in two passes, as E[x^2] - E[x]^2 loses digits."""
    mean = _mean(x, axes, axis_name)
    return mean, _mean(jnp.square(x - mean), axes, axis_name)


def normalised(x: Array, mean: Array | np.ndarray, gain: Array, bias: Array | np.ndarray) -> Array:
    """Computes gain * (x - mean) + bias."""
    # As one factor and one summand per channel: XLA on CPU would store x - mean, one more pass over all pixels.
    return x * gain + (bias - mean * gain)


def _mean(x: Array, axes: tuple[int, ...], axis_name: str | None) -> Array:
    mean = jnp.mean(x, axes, keepdims=True)
    return jax.lax.pmean(mean, axis_name) if axis_name else mean
