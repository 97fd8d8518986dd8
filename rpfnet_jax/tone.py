"""The brightness that a fused picture should have, as a function of the two sources alone."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

# Chosen on flir/val (10 pairs, by day and made dark) among gains of 0.75 to 1 and shares of 0 to 1; docs/weights.md
# says why they depend on the exposure, the mean of IR + VIS_Y: 0.8 to 1.3 in FLIR's training, 0.1 to 0.3 at night.
GAIN, DARK_GAIN = 0.8, 1.0
GAIN_RANGE = (0.6, 1.0)
SHARE, DARK_SHARE = 0.2, 0.7
SHARE_RANGE = (0.4, 0.8)
LEVEL = 0.5

_HALF_LEVEL = 0.5 / 255


def exposed_sum(
    ir: Float[Array, "b h w 1"], vis_y: Float[Array, "b h w 1"], exposure: Float[Array, " b"] | None = None
) -> Float[Array, "b h w 1"]:
    """Both sources' contrast at once, exposed like a photograph: (1 - s) * (g (IR + VIS_Y) - offset) + s * max.

    The sum keeps what either source has (its SCD is 2 where nothing is clipped), but two bright pictures leave [0, 1]:
    the offset takes its mean down to 0.5. Dark pictures have none, so that black stays black. The gain g is 0.8 for
    bright pairs and grows to 1 where there is room for it. The share s of the brighter source keeps hot targets and
    lamps from being diluted: 0.2 by day, up to 0.7 in the dark, where mostly one of the two shows anything and the
    other adds its noise.

    Args:
        ir: infrared images in [0, 1].
        vis_y: luminance of the visible images, same shape.
        exposure: mean of IR + VIS_Y of the whole pictures; None: the images are whole.
    """
    total = ir + vis_y
    if exposure is None:
        exposure = jnp.mean(total, axis=(1, 2, 3))
    exposure = exposure[:, None, None, None]
    gain = GAIN + (DARK_GAIN - GAIN) * _darkness(exposure, GAIN_RANGE)
    share = SHARE + (DARK_SHARE - SHARE) * _darkness(exposure, SHARE_RANGE)
    exposed = jnp.clip(gain * total - jnp.maximum(gain * exposure - LEVEL, 0), 0, 1)
    return (1 - share) * exposed + share * jnp.maximum(ir, vis_y)


def _darkness(exposure: Array, ends: tuple[float, float]) -> Array:
    """1 up to the first end, 0 from the second on."""
    dark, bright = ends
    return jnp.clip((bright - exposure) / (bright - dark), 0, 1)


def logit(image: Float[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """Inverse of the sigmoid, of values kept half a grey level from its ends, where it is infinite."""
    bounded = jnp.clip(image, _HALF_LEVEL, 1 - _HALF_LEVEL)
    return jnp.log(bounded) - jnp.log1p(-bounded)
