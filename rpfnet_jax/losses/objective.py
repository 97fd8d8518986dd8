"""The training objective: L_total = L_SS + L_F with L_F = L_c + lambda2 * L_s (Eq. 8 and 14), and what may be added."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.contrastive import contrastive_loss
from rpfnet_jax.losses.maximum import difference_correlation_loss, intensity_loss, texture_loss
from rpfnet_jax.losses.saliency import gradient_loss, region_loss
from rpfnet_jax.losses.structure import structure_loss


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
