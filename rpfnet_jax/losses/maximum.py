"""The usual objective of fusion networks, beside the paper's: F follows whichever source is brighter or steeper.

L_int and L_texture of SeAFusion (Tang et al., Information Fusion 2022) and its followers, and the sum of correlations
of differences (Aslantas & Bendes 2015) as a loss. All three belong to `configs/flir_plus.py` and what builds on it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.statistics import batch_mean, sobel
from rpfnet_jax.tone import exposed_sum

# Under the fraction bar of a correlation: a flat patch correlates with nothing.
_DEVIATION_EPSILON = 1e-6


def intensity_loss(
    fused: Float[Array, "b h w 1"],
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    config: LossConfig = LossConfig(),
) -> Float[Array, ""]:
    """Mean of |F - T|, T the `maximum` of both sources or their `exposed_sum`: `config.target`."""
    target = jnp.maximum(ir, vis_y) if config.target == "maximum" else exposed_sum(ir, vis_y)
    return batch_mean(jnp.abs(fused - target), config)


def texture_loss(
    fused: Float[Array, "b h w 1"],
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    config: LossConfig = LossConfig(),
) -> Float[Array, ""]:
    """Mean of |g(F) - g*|, g the two Sobel derivatives and g* at each pixel those of the source with the steeper slope.

    With their signs, unlike SeAFusion's magnitudes: a slope of the right size in the wrong direction is no texture.
    """
    (gx, gy), (target_x, target_y) = sobel(fused), _steeper(sobel(ir), sobel(vis_y))
    return batch_mean(jnp.abs(gx - target_x) + jnp.abs(gy - target_y), config)


def difference_correlation_loss(
    fused: Float[Array, "b h w 1"],
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    config: LossConfig = LossConfig(),
) -> Float[Array, ""]:
    """2 - SCD, SCD = r(F - VIS_Y, IR) + r(F - IR, VIS_Y) per image: what F has beyond one source is the other."""
    correlations = _correlation(fused - vis_y, ir) + _correlation(fused - ir, vis_y)
    return batch_mean(2 - correlations, config)


def _steeper(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    first = jnp.square(a[0]) + jnp.square(a[1]) >= jnp.square(b[0]) + jnp.square(b[1])
    return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])


def _correlation(a: Array, b: Array) -> Float[Array, "b 1 1 1"]:
    def centred(x: Array) -> Array:
        return x - jnp.mean(x, (1, 2, 3), keepdims=True)

    def energy(x: Array) -> Array:
        return jnp.mean(jnp.square(x), (1, 2, 3), keepdims=True)

    a, b = centred(a), centred(b)
    product = jnp.mean(a * b, (1, 2, 3), keepdims=True)
    return product * jax.lax.rsqrt((energy(a) + _DEVIATION_EPSILON) * (energy(b) + _DEVIATION_EPSILON))
