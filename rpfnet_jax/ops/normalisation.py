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
# Distance in pixels, along both axes, of those whose mean is taken first.
_SAMPLE = 8


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
    """Computes mean and biased variance over `axes`, keeping them; never as E[x^2] - E[x]^2, which loses digits."""
    in_two = functools.partial(_in_two_passes, axes=axes, axis_name=axis_name)
    in_one = functools.partial(moments_in_one_pass, axes=axes, axis_name=axis_name)
    return jax.lax.platform_dependent(x, cuda=in_one, default=in_two)


def _in_two_passes(x: Array, axes: tuple[int, ...], axis_name: str | None) -> tuple[Array, Array]:
    mean = _mean(x, axes, axis_name)
    return mean, _mean(jnp.square(x - mean), axes, axis_name)


def moments_in_one_pass(x: Array, axes: tuple[int, ...], axis_name: str | None = None) -> tuple[Array, Array]:
    """Computes the same as `moments`, but reads x once and combines the devices' results in a single reduction.

    A GPU's time for a norm is that of reading x, and the time of a small reduction between GPUs is its latency.
    """
    # Subtracting any constant gives the same result; one near the mean, here that of some pixels, loses no digits.
    sample = tuple(slice(None, None, _SAMPLE) if axis in axes and axis else slice(None) for axis in range(x.ndim))
    near = jnp.mean(x[sample], axes, keepdims=True)
    rest = jnp.mean(x - near, axes, keepdims=True)
    mean, var = near + rest, jnp.mean(jnp.square(x - near), axes, keepdims=True) - jnp.square(rest)
    if axis_name is None:
        return mean, var
    # Each device fills in its own row, so that the sum is a table of all devices' results.
    own = jax.nn.one_hot(jax.lax.axis_index(axis_name), jax.lax.axis_size(axis_name), dtype=x.dtype)
    rows = own.reshape(-1, 1, *(1,) * x.ndim) * jnp.stack([mean, var])
    means, variances = jnp.moveaxis(jax.lax.psum(rows, axis_name), 1, 0)
    whole = jnp.mean(means, 0)
    return whole, jnp.mean(variances + jnp.square(means - whole), 0)


def normalised(x: Array, mean: Array | np.ndarray, gain: Array, bias: Array | np.ndarray) -> Array:
    """Computes gain * (x - mean) + bias."""
    # As one factor and one summand per channel: XLA on CPU would store x - mean, one more pass over all pixels.
    return x * gain + (bias - mean * gain)


def _mean(x: Array, axes: tuple[int, ...], axis_name: str | None) -> Array:
    mean = jnp.mean(x, axes, keepdims=True)
    return jax.lax.pmean(mean, axis_name) if axis_name else mean
