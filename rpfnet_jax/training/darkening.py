"""Night made of day: random darkening of training patches, on the device.

The sets with well-exposed pictures teach a network nothing about the dark: what it meets at night is then out of its
training's range. A darkened source also breaks the habit of taking one of the two for granted.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Each is drawn uniformly between its two ends. Night scenes of MSRS have a mean luminance of 0.05 to 0.15, a few lamps
# and noise of 1 to 2 per cent.
_GAMMA = (1.0, 3.0)
_GAIN = {"ir": (0.4, 1.0), "vis_y": (0.1, 0.8)}
_NOISE = (0.0, 0.02)


@dataclasses.dataclass(frozen=True)
class DarkeningConfig:
    """How many patches are darkened.

    Attributes:
        vis: share of the patches whose visible side is made dark and noisy.
        ir: share of the patches whose infrared side is, independently of the other.
    """

    vis: float = 0.0
    ir: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vis", "ir"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"darkening.{name} is a share from 0 to 1, got {getattr(self, name)}")


def darken(
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    key: Array,
    config: DarkeningConfig,
    first: int | Array = 0,
) -> tuple[Float[Array, "b h w 1"], Float[Array, "b h w 1"]]:
    """Darkens a share of the patches: gain * x^gamma plus noise, clipped to [0, 1]; the others stay as they are.

    Args:
        ir: infrared patches in [0, 1].
        vis_y: visible luminance, same shape.
        key: of this step. What happens to a patch depends on it and on the patch's place in the whole batch.
        config: the shares.
        first: place in the whole batch of the first patch given.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(len(ir)))
    keys = jax.vmap(jax.random.split)(keys)
    return _side(ir, keys[:, 0], config.ir, _GAIN["ir"]), _side(vis_y, keys[:, 1], config.vis, _GAIN["vis_y"])


def _side(images: Array, keys: Array, share: float, gain: tuple[float, float]) -> Array:
    if share == 0:
        return images

    def one(image: Array, key: Array) -> Array:
        chosen, *amounts, grain = jax.random.split(key, 5)
        ends = (_GAMMA, gain, _NOISE)
        gamma, scale, sigma = (
            jax.random.uniform(k, (), minval=a, maxval=b) for k, (a, b) in zip(amounts, ends, strict=True)
        )
        dark = scale * jnp.maximum(image, 1e-4) ** gamma + sigma * jax.random.normal(grain, image.shape)
        return jnp.where(jax.random.uniform(chosen) < share, jnp.clip(dark, 0, 1), image)

    return jax.vmap(one)(images, keys)
