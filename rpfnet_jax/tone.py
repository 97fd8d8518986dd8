"""The brightness that a fused picture should have, as a function of the two sources alone."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

# Chosen on flir/val (10 pairs) among gains of 0.75 to 1 and shares of 0 to 1; DARK_SHARE with the same pairs made dark.
GAIN = 0.8
LEVEL = 0.5
SHARE = 0.2
DARK_SHARE = 0.9
# Mean of IR + VIS_Y below which a pair is dark, and from which on it is not; the FLIR training pairs have 0.8 to 1.3.
DARK, BRIGHT = 0.4, 0.8

_HALF_LEVEL = 0.5 / 255


def exposed_sum(
    ir: Float[Array, "b h w 1"], vis_y: Float[Array, "b h w 1"], exposure: Float[Array, " b"] | None = None
) -> Float[Array, "b h w 1"]:
    """Both sources' contrast at once, exposed like a photograph: (1 - s) * (0.8 (IR + VIS_Y) - offset) + s * max.

    The sum keeps what either source has (its SCD is 2 where nothing is clipped), but two bright pictures leave [0, 1]:
    the offset takes its mean down to 0.5. Dark pictures have none, so that black stays black. The share s of the
    brighter source keeps hot targets and lamps from being diluted: 0.2 by day, up to 0.9 in the dark, where mostly one
    of the two shows anything and the other adds its noise.

    Args:
        ir: infrared images in [0, 1].
        vis_y: luminance of the visible images, same shape.
        exposure: mean of IR + VIS_Y of the whole pictures; None: the images are whole.
    """
    total = ir + vis_y
    if exposure is None:
        exposure = jnp.mean(total, axis=(1, 2, 3))
    exposure = exposure[:, None, None, None]
    exposed = jnp.clip(GAIN * total - jnp.maximum(GAIN * exposure - LEVEL, 0), 0, 1)
    darkness = jnp.clip((BRIGHT - exposure) / (BRIGHT - DARK), 0, 1)
    share = SHARE + (DARK_SHARE - SHARE) * darkness
    return (1 - share) * exposed + share * jnp.maximum(ir, vis_y)


def logit(image: Float[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """Inverse of the sigmoid, of values kept half a grey level from its ends, where it is infinite."""
    bounded = jnp.clip(image, _HALF_LEVEL, 1 - _HALF_LEVEL)
    return jnp.log(bounded) - jnp.log1p(-bounded)
