"""The paper's losses (Eq. 5-14), in both readings, and further ones for `objective`.

All are pure functions of float32 images of one shape, (B, H, W, 1), in [0, 1]: the fused luminance F (`fused`), the
infrared image IR (`ir`), the luminance of the visible image VIS_Y (`vis_y`) and the auxiliary decoder's map M'
(`aux_map`). Each takes a `LossConfig` last, whose default is the `paper` reading, and returns a scalar unless it says
otherwise. A term of the objective that is not in the paper takes a weight in config.py and an entry in objective.py.
"""

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
