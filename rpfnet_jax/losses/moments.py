"""Means, deviations, maxima and norms over each image or the whole batch, on one device or several.

`config.scope` selects between image and batch, `config.axis` is the mesh axis over which the batch is sharded. Results
that broadcast against the images have shape (n, 1, 1, 1), with n = B for `image` and n = 1 for `batch`.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.ops import Images, Scalar

_RMS_EPSILON = 1e-12


def check_images(*images: Array) -> None:
    """Asserts that all are (B, H, W, 1) of one shape: others might broadcast to a wrong loss."""
    chex.assert_shape(images, (None, None, None, 1))
    chex.assert_equal_shape(images)


def mean(x: Images, config: LossConfig) -> Float[Array, "n 1 1 1"]:
    """Averages each image or the batch."""
    total, count = _total(x, config)
    return total / count


def mean_and_deviation(x: Images, config: LossConfig) -> tuple[Float[Array, "n 1 1 1"], Float[Array, "n 1 1 1"]]:
    """Computes mu and sigma: the population's of each image, or the batch's with ddof = 1, as torch.std."""
    center = mean(x, config)
    squares, count = _total(jnp.square(x - center), config)
    return center, jnp.sqrt(squares / (count - (config.scope == "batch")))


def maximum(x: Images, config: LossConfig) -> Float[Array, "n 1 1 1"]:
    """Finds the largest value; its gradient goes to the pixels that have it, in equal parts."""
    largest = jnp.max(x, _axes(config), keepdims=True)
    if not _sharded(config):
        return largest
    # JAX does not differentiate the maximum over devices; the mean of all values equal to it has the right gradient.
    largest = jax.lax.pmax(jax.lax.stop_gradient(largest), config.axis)
    hit = (x == largest).astype(x.dtype)
    equal = _total(x * hit, config)[0] / _total(hit, config)[0]
    return largest + (equal - jax.lax.stop_gradient(equal))


def rms(x: Images, config: LossConfig) -> Scalar:
    """Computes the norm ||.||_2 of Eq. 6-7: root mean square per image or of the batch, averaged over the images.

    A plain root of sums would grow with the image and drown the other terms.
    """
    return batch_mean(jnp.sqrt(mean(jnp.square(x), config) + _RMS_EPSILON), config)


def batch_mean(x: Float[Array, "..."], config: LossConfig) -> Scalar:
    """Averages all values, over all devices that share the batch."""
    local = jnp.mean(x)
    return local if config.axis is None else jax.lax.pmean(local, config.axis)


def _total(x: Array, config: LossConfig) -> tuple[Array, int]:
    """Sums each image or the batch; also returns the number of values in a sum."""
    total = jnp.sum(x, _axes(config), keepdims=True)
    count = x.size // total.size
    if not _sharded(config):
        return total, count
    return jax.lax.psum(total, config.axis), count * jax.lax.axis_size(config.axis)


def _axes(config: LossConfig) -> tuple[int, ...]:
    return (1, 2, 3) if config.scope == "image" else (0, 1, 2, 3)


def _sharded(config: LossConfig) -> bool:
    """Whether statistics run over values on several devices."""
    return config.scope == "batch" and config.axis is not None
