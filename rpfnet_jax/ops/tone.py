"""The exposed sum: the brightness that a fused image should have, as a function of the two sources alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rpfnet_jax.ops import Images

# Chosen among a few values on flir/val (10 pairs, by day and darkened). They vary with the brightness, the mean of
# IR + VIS_Y, which is 0.8 to 1.3 in FLIR's training set and 0.1 to 0.3 at night; docs/weights.md explains why.
CONTRAST = 0.2
LEAST_GAIN, DARK_GAIN = 0.7, 1.0
GAIN_RANGE = (0.6, 1.0)
SHARE, DARK_SHARE = 0.25, 0.7
SHARE_RANGE = (0.4, 0.8)
LEVEL = 0.5
# The sources' weights have the ratio of their deviations to this power, up to that limit.
EQUALITY, MOST_UNEQUAL = 0.5, 1.6

HALF_LEVEL = 0.5 / 255
VARIANCE_EPSILON = 1e-6


class Exposure(NamedTuple):
    """The statistics of whole images that `exposed_sum` depends on, one value for each pair."""

    ir_mean: Float[Array | np.ndarray, " b"]
    vis_mean: Float[Array | np.ndarray, " b"]
    ir_variance: Float[Array | np.ndarray, " b"]
    vis_variance: Float[Array | np.ndarray, " b"]
    covariance: Float[Array | np.ndarray, " b"]


def measure_exposure(ir: Float[Array | np.ndarray, "b h w 1"], vis_y: Float[Array | np.ndarray, "b h w 1"]) -> Exposure:
    """Measures whole images in [0, 1]; NumPy arrays give NumPy arrays, JAX arrays give JAX arrays."""
    chex.assert_equal_shape([ir, vis_y])

    # Rows first: a single sum of millions of float32 values would lose digits.
    def mean(image: Any) -> Any:
        return image.mean((2, 3)).mean(1)

    def mean_product(a: Any, b: Any) -> Any:
        if not isinstance(a, np.ndarray):
            return mean(a * b)
        # Without an array of the products: images that are fused in tiles are as large as memory allows.
        return np.einsum("bhwc,bhwc->bh", a, b).mean(1) / a.shape[2]

    ir_mean, vis_mean = mean(ir), mean(vis_y)
    return Exposure(
        ir_mean,
        vis_mean,
        mean_product(ir, ir) - ir_mean * ir_mean,
        mean_product(vis_y, vis_y) - vis_mean * vis_mean,
        mean_product(ir, vis_y) - ir_mean * vis_mean,
    )


def exposed_sum(ir: Images, vis_y: Images, exposure: Exposure | None = None) -> Images:
    """Adds both sources and exposes the sum like a photograph: (1 - s) * (g (u IR + v VIS_Y) - offset) + s * max.

    The plain sum keeps the contrast of both sources (its SCD is 2), but that of two bright images leaves [0, 1]: the
    offset brings its mean down to 0.5, and the gain g its standard deviation to `CONTRAST`, within `LEAST_GAIN` to 1.
    By day the flatter source gets the larger of the weights u + v = 2, so that both correlate with the result. Dark
    images have no offset and g = u = v = 1, so that black stays black and noise is not amplified. The share s of the
    brighter source keeps hot targets and lamps from being diluted: a quarter by day, up to 0.7 in the dark, where one
    of the two sources usually shows nothing but noise.

    Args:
        ir: infrared images in [0, 1].
        vis_y: luminance of the visible images in [0, 1].
        exposure: statistics of the whole images where `ir` and `vis_y` are tiles; None: they are whole.
    """
    chex.assert_shape([ir, vis_y], (None, None, None, 1))
    chex.assert_equal_shape([ir, vis_y])
    whole = measure_exposure(ir, vis_y) if exposure is None else exposure
    brightness = whole.ir_mean + whole.vis_mean
    dark = _darkness(brightness, SHARE_RANGE)
    share = SHARE + (DARK_SHARE - SHARE) * dark

    ir_variance, vis_variance = (jnp.maximum(v, 0) + VARIANCE_EPSILON for v in (whole.ir_variance, whole.vis_variance))
    ratio = jnp.clip((vis_variance / ir_variance) ** (EQUALITY / 2 * (1 - dark)), 1 / MOST_UNEQUAL, MOST_UNEQUAL)
    ir_weight, vis_weight = 2 * ratio / (1 + ratio), 2 / (1 + ratio)
    variance = ir_weight**2 * ir_variance + vis_weight**2 * vis_variance + 2 * ir_weight * vis_weight * whole.covariance
    gain = jnp.clip(CONTRAST * jax.lax.rsqrt(jnp.maximum(variance, VARIANCE_EPSILON)), LEAST_GAIN, 1)
    gain = gain + (DARK_GAIN - gain) * _darkness(brightness, GAIN_RANGE)
    offset = jnp.maximum(gain * (ir_weight * whole.ir_mean + vis_weight * whole.vis_mean) - LEVEL, 0)

    gain, share, offset, ir_weight, vis_weight = (
        value[:, None, None, None] for value in (gain, share, offset, ir_weight, vis_weight)
    )
    exposed = jnp.clip(gain * (ir_weight * ir + vis_weight * vis_y) - offset, 0, 1)
    return (1 - share) * exposed + share * jnp.maximum(ir, vis_y)


def _darkness(brightness: Array | np.ndarray, ends: tuple[float, float]) -> Array:
    """Falls linearly from 1 at the first end to 0 at the second."""
    dark, bright = ends
    return jnp.clip((bright - brightness) / (bright - dark), 0, 1)


def logit(image: Images) -> Images:
    """Inverts the sigmoid, with values kept half a grey level away from 0 and 1, where it is infinite."""
    bounded = jnp.clip(image, HALF_LEVEL, 1 - HALF_LEVEL)
    return jnp.log(bounded) - jnp.log1p(-bounded)
