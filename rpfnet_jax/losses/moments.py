"""Means, deviations and the Sobel operator that masks and losses share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import LossConfig, Scope

RMS_EPSILON = 1e-12


def mean(x: Float[Array, "b h w 1"], config: LossConfig) -> Float[Array, "n 1 1 1"]:
    """The mean of each image, or of the whole batch, by `config.scope`; n = B or 1."""
    total, count = _total(x, config)
    return total / count


def mean_and_deviation(
    x: Float[Array, "b h w 1"], config: LossConfig
) -> tuple[Float[Array, "n 1 1 1"], Float[Array, "n 1 1 1"]]:
    """mu and sigma over each image (population) or over the batch (ddof = 1, as torch.std); n = B or 1."""
    center = mean(x, config)
    squares, count = _total(jnp.square(x - center), config)
    return center, jnp.sqrt(squares / (count - (config.scope == "batch")))


def maximum(x: Float[Array, "b h w 1"], config: LossConfig) -> Float[Array, "n 1 1 1"]:
    """The largest value of each image or of the batch; its gradient goes to where it is, in equal parts to ties."""
    largest = jnp.max(x, _axes(config.scope), keepdims=True)
    if not _spread(config):
        return largest
    # The largest of several devices has no derivative in JAX; the mean of the values equal to it has the right one.
    largest = jax.lax.pmax(jax.lax.stop_gradient(largest), config.axis)
    hit = (x == largest).astype(x.dtype)
    equal = _total(x * hit, config)[0] / _total(hit, config)[0]
    return largest + (equal - jax.lax.stop_gradient(equal))


def rms(x: Float[Array, "b h w 1"], config: LossConfig) -> Float[Array, ""]:
    """The norm ||.||_2 of Eq. 6-7: root mean square per image (or over the batch), averaged over the images.

    A plain root of sums would grow with the picture and drown the other terms.
    """
    return batch_mean(jnp.sqrt(mean(jnp.square(x), config) + RMS_EPSILON), config)


def batch_mean(x: Float[Array, "..."], config: LossConfig) -> Float[Array, ""]:
    """The mean of all values, wherever the batch is."""
    local = jnp.mean(x)
    return local if config.axis is None else jax.lax.pmean(local, config.axis)


def _total(x: Array, config: LossConfig) -> tuple[Array, int]:
    """Sum of each image or of the batch, and of how many values."""
    total = jnp.sum(x, _axes(config.scope), keepdims=True)
    count = x.size // total.size
    if not _spread(config):
        return total, count
    return jax.lax.psum(total, config.axis), count * jax.lax.axis_size(config.axis)


def _axes(scope: Scope) -> tuple[int, ...]:
    return (1, 2, 3) if scope == "image" else (0, 1, 2, 3)


def _spread(config: LossConfig) -> bool:
    """Whether statistics run over values on several devices."""
    return config.scope == "batch" and config.axis is not None
