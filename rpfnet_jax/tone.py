"""The brightness that a fused picture should have, as a function of the two sources alone."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

# Chosen on flir/val (20 pairs) among gains of 0.75 to 1 and shares of 0 to 0.7.
GAIN = 0.85
LEVEL = 0.5
BRIGHTER = 0.3

_HALF_LEVEL = 0.5 / 255


def exposed_sum(
    ir: Float[Array, "b h w 1"], vis_y: Float[Array, "b h w 1"], exposure: Float[Array, " b"] | None = None
) -> Float[Array, "b h w 1"]:
    """Both sources' contrast at once, exposed like a photograph: 0.7 * (0.85 (IR + VIS_Y) - offset) + 0.3 * max.

    The sum keeps what either source has (its SCD is 2 where nothing is clipped), but two bright pictures leave [0, 1]:
    the offset takes its mean down to 0.5. Dark pictures have none, so that black stays black. The share of the brighter
    source keeps hot targets and lamps from being diluted.

    Args:
        ir: infrared images in [0, 1].
        vis_y: luminance of the visible images, same shape.
        exposure: mean of IR + VIS_Y of the whole pictures; None: the images are whole.
    """
    total = ir + vis_y
    if exposure is None:
        exposure = jnp.mean(total, axis=(1, 2, 3))
    offset = jnp.maximum(GAIN * exposure - LEVEL, 0)[:, None, None, None]
    exposed = jnp.clip(GAIN * total - offset, 0, 1)
    return (1 - BRIGHTER) * exposed + BRIGHTER * jnp.maximum(ir, vis_y)


def logit(image: Float[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """Inverse of the sigmoid, of values kept half a grey level from its ends, where it is infinite."""
    bounded = jnp.clip(image, _HALF_LEVEL, 1 - _HALF_LEVEL)
    return jnp.log(bounded) - jnp.log1p(-bounded)
