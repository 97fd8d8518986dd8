"""The paper's losses (Eq. 5-14) as pure functions of (B, H, W, 1) arrays in [0, 1], in both readings."""

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.contrastive import adaptive_weight, contrastive_distances, contrastive_loss
from rpfnet_jax.losses.objective import difference_correlation_loss, intensity_loss, objective, texture_loss
from rpfnet_jax.losses.saliency import gradient_loss, region_loss, saliency_loss, texture_mask, thermal_mask
from rpfnet_jax.losses.structure import ssim_map, structure_loss

__all__ = [
    "LossConfig",
    "adaptive_weight",
    "contrastive_distances",
    "contrastive_loss",
    "difference_correlation_loss",
    "gradient_loss",
    "intensity_loss",
    "objective",
    "region_loss",
    "saliency_loss",
    "ssim_map",
    "structure_loss",
    "texture_loss",
    "texture_mask",
    "thermal_mask",
]
