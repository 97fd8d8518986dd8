"""The usual objective of fusion networks, beside the paper's: F follows whichever source is brighter or steeper.

L_int and L_texture of SeAFusion (Tang et al., Information Fusion 2022) and its followers, and the sum of correlations
of differences (Aslantas & Bendes 2015) as a loss. All three belong to `configs/flir_plus.py` and what builds on it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.contrastive import contrastive_loss
from rpfnet_jax.losses.moments import batch_mean
from rpfnet_jax.losses.saliency import gradient_loss, region_loss
from rpfnet_jax.losses.structure import structure_loss
from rpfnet_jax.ops.filters import sobel
from rpfnet_jax.ops.tone import exposed_sum

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


def objective(
    fused: Float[Array, "b h w 1"],
    aux_map: Float[Array, "b h w 1"] | None,
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    config: LossConfig = LossConfig(),
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """L_total of Eq. 14, plus the weighted terms of `losses.maximum` where the configuration has any, and the terms.

    Args:
        fused: fused luminance F in [0, 1].
        aux_map: the auxiliary decoder's map M' in [0, 1]; None where `config.auxiliary` is False.
        ir: infrared images in [0, 1].
        vis_y: luminance of the visible images in [0, 1].
        config: reading and weights of the terms.

    Returns:
        The scalar to minimise and a flat dict of unweighted terms: `contrastive` (L_c), `structure` (L_s),
        `saliency_gradient` (L_grad), `saliency_region` (L_reg), `intensity`, `texture`, `difference_correlation`, and
        `total`. Terms that the configuration leaves out
        are not computed and not in the dict.

    Raises:
        ValueError: a map is missing or there is one too many.
    """
    if (aux_map is not None) != config.auxiliary:
        raise ValueError(f"loss.auxiliary is {config.auxiliary}, but the map M' is {'not ' * (aux_map is None)}given")
    weighted = {
        "contrastive": (config.contrastive, contrastive_loss),
        "structure": (config.lambda2, structure_loss),
        "intensity": (config.intensity, intensity_loss),
        "texture": (config.texture, texture_loss),
        "difference_correlation": (config.difference_correlation, difference_correlation_loss),
    }
    terms, total = {}, jnp.zeros((), fused.dtype)
    for name, (weight, loss) in weighted.items():
        if weight > 0:
            terms[name] = loss(fused, ir, vis_y, config)
            total = total + weight * terms[name]
    if aux_map is not None:
        terms["saliency_gradient"] = gradient_loss(aux_map, ir, vis_y, config)
        terms["saliency_region"] = region_loss(aux_map, ir, config)
        # In this order: sums in floating point depend on it.
        total = terms["saliency_gradient"] + terms["saliency_region"] + total
    return total, {"total": total, **terms}
