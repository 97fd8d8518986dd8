"""The brightness that a fused picture should have, as a function of the two sources alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Chosen on flir/val (10 pairs, by day and made dark) among a few; docs/weights.md says why they depend on the exposure,
# the mean of IR + VIS_Y: 0.8 to 1.3 in FLIR's training, 0.1 to 0.3 at night.
CONTRAST = 0.2
LEAST_GAIN, DARK_GAIN = 0.7, 1.0
GAIN_RANGE = (0.6, 1.0)
SHARE, DARK_SHARE = 0.25, 0.7
SHARE_RANGE = (0.4, 0.8)
LEVEL = 0.5
# Power of the sources' ratio of deviations by which their weights differ, and how far that may go.
EQUALITY, MOST_UNEQUAL = 0.5, 1.6

_HALF_LEVEL = 0.5 / 255
_VARIANCE_EPSILON = 1e-6


class Exposure(NamedTuple):
    """What `exposed_sum` needs to know of whole pictures, each of shape (B,)."""

    ir_mean: Float[Array | np.ndarray, " b"]
    vis_mean: Float[Array | np.ndarray, " b"]
    ir_variance: Float[Array | np.ndarray, " b"]
    vis_variance: Float[Array | np.ndarray, " b"]
    covariance: Float[Array | np.ndarray, " b"]


def measure_exposure(ir: Float[Array | np.ndarray, "b h w 1"], vis_y: Float[Array | np.ndarray, "b h w 1"]) -> Exposure:
    """Means, variances and covariance of whole pictures in [0, 1]: NumPy's of NumPy arrays, JAX's of JAX's."""

    # Rows first: sums of millions of float32 would lose digits.
    def mean(image: Any) -> Any:
        return image.mean((2, 3)).mean(1)

    def mean_product(a: Any, b: Any) -> Any:
        if not isinstance(a, np.ndarray):
            return mean(a * b)
        # Without an array of the products: pictures that are fused in tiles are as large as memory allows.
        return np.einsum("bhwc,bhwc->bh", a, b).mean(1) / a.shape[2]

    ir_mean, vis_mean = mean(ir), mean(vis_y)
    return Exposure(
        ir_mean,
        vis_mean,
        mean_product(ir, ir) - ir_mean * ir_mean,
        mean_product(vis_y, vis_y) - vis_mean * vis_mean,
        mean_product(ir, vis_y) - ir_mean * vis_mean,
    )


def exposed_sum(
    ir: Float[Array, "b h w 1"], vis_y: Float[Array, "b h w 1"], exposure: Exposure | None = None
) -> Float[Array, "b h w 1"]:
    """Both sources' contrast at once, exposed like a photograph: (1 - s) * (g (u IR + v VIS_Y) - offset) + s * max.

    The plain sum keeps what either source has (its SCD is 2), but two bright pictures leave [0, 1]: the offset
    takes its mean down to 0.5, and the gain g its deviation to `CONTRAST`, within `LEAST_GAIN` to 1. By day the
    flatter source weighs more, u + v = 2, so that both correlate with the result. Dark pictures have no offset and
    keep g = u = v = 1, so that black stays black and noise is not weighed up. The share s of the brighter source
    keeps hot targets and lamps from being diluted: a quarter by day, up to 0.7 in the dark, where mostly one of the
    two shows anything and the other adds its noise.

    Args:
        ir: infrared images in [0, 1].
        vis_y: luminance of the visible images, same shape.
        exposure: of the whole pictures; None: the images are whole.
    """
    whole = measure_exposure(ir, vis_y) if exposure is None else exposure
    brightness = whole.ir_mean + whole.vis_mean
    dark = _darkness(brightness, SHARE_RANGE)
    share = SHARE + (DARK_SHARE - SHARE) * dark

    ir_variance, vis_variance = (jnp.maximum(v, 0) + _VARIANCE_EPSILON for v in (whole.ir_variance, whole.vis_variance))
    ratio = jnp.clip((vis_variance / ir_variance) ** (EQUALITY / 2 * (1 - dark)), 1 / MOST_UNEQUAL, MOST_UNEQUAL)
    ir_weight, vis_weight = 2 * ratio / (1 + ratio), 2 / (1 + ratio)
    variance = ir_weight**2 * ir_variance + vis_weight**2 * vis_variance + 2 * ir_weight * vis_weight * whole.covariance
    gain = jnp.clip(CONTRAST * jax.lax.rsqrt(jnp.maximum(variance, _VARIANCE_EPSILON)), LEAST_GAIN, 1)
    gain = gain + (DARK_GAIN - gain) * _darkness(brightness, GAIN_RANGE)
    offset = jnp.maximum(gain * (ir_weight * whole.ir_mean + vis_weight * whole.vis_mean) - LEVEL, 0)

    gain, share, offset, ir_weight, vis_weight = (
        value[:, None, None, None] for value in (gain, share, offset, ir_weight, vis_weight)
    )
    exposed = jnp.clip(gain * (ir_weight * ir + vis_weight * vis_y) - offset, 0, 1)
    return (1 - share) * exposed + share * jnp.maximum(ir, vis_y)


def _darkness(exposure: Array | np.ndarray, ends: tuple[float, float]) -> Array:
    """1 up to the first end, 0 from the second on."""
    dark, bright = ends
    return jnp.clip((bright - exposure) / (bright - dark), 0, 1)


def logit(image: Float[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """Inverse of the sigmoid, of values kept half a grey level from its ends, where it is infinite."""
    bounded = jnp.clip(image, _HALF_LEVEL, 1 - _HALF_LEVEL)
    return jnp.log(bounded) - jnp.log1p(-bounded)
