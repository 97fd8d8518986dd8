"""The objective, Eq. 8 and 14, with the terms that it can have beside the paper's.

In those the fused image follows the source that is brighter or steeper, as is usual for fusion networks: L_int and
L_texture of SeAFusion (Tang et al., Information Fusion 2022) and its followers, and the sum of correlations of
differences (Aslantas & Bendes 2015) as a loss. The recipe `flir_plus` and those built on it use all three.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.contrastive import contrastive_loss
from rpfnet_jax.losses.moments import batch_mean, check_images
from rpfnet_jax.losses.saliency import gradient_loss, region_loss
from rpfnet_jax.losses.structure import structure_loss
from rpfnet_jax.ops import Images, Scalar
from rpfnet_jax.ops.filters import sobel
from rpfnet_jax.ops.tone import exposed_sum

# In the denominator of a correlation: a flat patch correlates with nothing.
_VARIANCE_EPSILON = 1e-6


def objective(
    fused: Images, aux_map: Images | None, ir: Images, vis_y: Images, config: LossConfig = LossConfig()
) -> tuple[Scalar, dict[str, Scalar]]:
    """Computes L_total of Eq. 14, plus the weighted terms of this module where the configuration has any.

    L_total = L_SS + L_fus with L_SS = L_grad + L_reg (Eq. 5) and L_fus = L_c + lambda2 * L_s (Eq. 8).

    Args:
        fused: the fused luminance F.
        aux_map: the auxiliary decoder's map M'; None where `config.auxiliary` is False.
        ir: infrared images.
        vis_y: luminance of the visible images.
        config: reading, weights of the terms.

    Returns:
        The scalar to minimise and a flat dict of unweighted terms: `contrastive` (L_c), `structure` (L_s),
        `saliency_gradient` (L_grad), `saliency_region` (L_reg), `intensity`, `texture`, `difference_correlation`, and
        `total`. Terms of weight 0 are not computed and not in the dict.

    Raises:
        ValueError: `aux_map` is given where `config.auxiliary` is False, or missing where it is True.
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
        # The order of floating-point sums determines their last digits.
        total = terms["saliency_gradient"] + terms["saliency_region"] + total
    return total, {"total": total, **terms}


def intensity_loss(fused: Images, ir: Images, vis_y: Images, config: LossConfig = LossConfig()) -> Scalar:
    """Averages `|F - T|`, T being the `maximum` of both sources or their `exposed_sum`: `config.target`."""
    check_images(fused, ir, vis_y)
    target = jnp.maximum(ir, vis_y) if config.target == "maximum" else exposed_sum(ir, vis_y)
    return batch_mean(jnp.abs(fused - target), config)


def texture_loss(fused: Images, ir: Images, vis_y: Images, config: LossConfig = LossConfig()) -> Scalar:
    """Averages `|g(F) - g*|`, g: the two Sobel derivatives, `g*`: those of the source that is steeper at the pixel.

    Unlike SeAFusion's magnitudes, the derivatives keep their signs: a slope in the wrong direction counts as an error.
    """
    check_images(fused, ir, vis_y)
    (fx, fy), (ax, ay), (bx, by) = sobel(fused), sobel(ir), sobel(vis_y)
    steeper = jnp.square(ax) + jnp.square(ay) >= jnp.square(bx) + jnp.square(by)
    target_x, target_y = jnp.where(steeper, ax, bx), jnp.where(steeper, ay, by)
    return batch_mean(jnp.abs(fx - target_x) + jnp.abs(fy - target_y), config)


def difference_correlation_loss(fused: Images, ir: Images, vis_y: Images, config: LossConfig = LossConfig()) -> Scalar:
    """Computes 2 - SCD, SCD = r(F - VIS_Y, IR) + r(F - IR, VIS_Y): F without one source should be the other."""
    check_images(fused, ir, vis_y)
    correlations = _correlation(fused - vis_y, ir) + _correlation(fused - ir, vis_y)
    return batch_mean(2 - correlations, config)


def _correlation(a: Array, b: Array) -> Float[Array, "b 1 1 1"]:
    """Correlates two images pixel by pixel."""

    def image_mean(x: Array) -> Array:
        return jnp.mean(x, (1, 2, 3), keepdims=True)

    a, b = a - image_mean(a), b - image_mean(b)
    covariance = image_mean(a * b)
    variance_a, variance_b = (image_mean(jnp.square(x)) + _VARIANCE_EPSILON for x in (a, b))
    return covariance * jax.lax.rsqrt(variance_a * variance_b)
