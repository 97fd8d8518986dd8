"""Configuration of the objective: the two readings of the losses, the paper's errata and its ablations."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from rpfnet_jax.ops.settings import ReadingConfig

Scope = Literal["image", "batch"]

_WEIGHTS = ("lambda2", "contrastive", "intensity", "texture", "difference_correlation")


@dataclasses.dataclass(frozen=True)
class LossConfig(ReadingConfig):
    """Every choice of the objective. The defaults are the `paper` reading with its two errata corrected.

    Attributes:
        lambda1: weight of the texture term in Eq. 6.
        lambda2: weight of the structure loss in Eq. 8; 0 leaves L_s out (ablation, Case 1).
        epsilon: added to the denominator of Eq. 10.
        scope: the pixels over which means, standard deviations, maxima and norms run: those of each `image` (the loss
            of a batch is then the mean over its images), or of the whole `batch` (released code; deviations with
            ddof = 1).
        saliency: Eq. 6-7 with l2 norms as root mean squares (`rms`), or the released code's mean squared error of
            max-normalised gradients and plain means (`mse`).
        weight_signs: signs inside S_en of Eq. 9: `plus` (released code) or minus, as `printed`. The printed ones leave
            out nearly all hot pixels: an erratum.
        negatives: the four negative pairs of Eq. 12: those of the `released` code, or the `printed` ones, the last of
            which is also a positive pair: an erratum. `none`: L_c is D_pos alone, without a denominator (ablation,
            Case 2).
        domain: where the l1 distances of Eq. 11 are taken: between spectra (`frequency`), or between the pixels of the
            same pairs (`spatial`; ablation, Case 3).
        adaptive_weights: False: w = w~ = 1, D_pos = d(F, IR) + d(F, VIS_Y) over the whole images (ablation, Case 4:
            "directly enforcing feature constraints between source images"). All negative pairs are then positive ones
            and Eq. 10 is the constant 1/2 whatever F is: needs `negatives` = `none`.
        auxiliary: False leaves out L_SS and the auxiliary decoder (ablation, Case 5).
        ssim_window: side of the Gaussian SSIM window, sigma 1.5.
        ssim_padding: `valid` windows only, or `reflect` at the borders.
        ssim_loss: `one_minus` SSIM per source, or `half_clipped`: clip((1 - SSIM)/2, 0, 1).
        contrastive: weight of L_c in Eq. 8, 1 in the paper; 0 leaves it out.
        intensity: weight of `intensity_loss`, which is not in the paper; 0 leaves it out.
        target: what `intensity_loss` compares F with, the `maximum` of both sources or their `exposed_sum`.
        texture: weight of `texture_loss`, likewise.
        difference_correlation: weight of `difference_correlation_loss`, likewise.
        axis: not a setting of a run but set by the train step: mesh axis over which the batch is sharded, inside
            `jax.shard_map`. Losses and gradients are those of the whole batch either way. None: the batch is here.
    """

    section: ClassVar[str] = "loss"
    released: ClassVar = {
        "epsilon": 1e-10,
        "scope": "batch",
        "saliency": "mse",
        "ssim_window": 3,
        "ssim_padding": "reflect",
        "ssim_loss": "half_clipped",
    }

    lambda1: float = 0.3
    lambda2: float = 5.0
    epsilon: float = 1e-9
    scope: Scope = "image"
    saliency: Literal["rms", "mse"] = "rms"
    weight_signs: Literal["plus", "printed"] = "plus"
    negatives: Literal["released", "printed", "none"] = "released"
    domain: Literal["frequency", "spatial"] = "frequency"
    adaptive_weights: bool = True
    auxiliary: bool = True
    ssim_window: int = 11
    ssim_padding: Literal["valid", "reflect"] = "valid"
    ssim_loss: Literal["one_minus", "half_clipped"] = "one_minus"
    contrastive: float = 1.0
    intensity: float = 0.0
    target: Literal["maximum", "exposed_sum"] = "maximum"
    texture: float = 0.0
    difference_correlation: float = 0.0
    axis: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _WEIGHTS:
            if getattr(self, name) < 0:
                raise ValueError(f"loss.{name} must be finite and not negative, got {getattr(self, name)}")
        if not self.adaptive_weights and self.negatives != "none":
            raise ValueError(
                "loss.negatives must be 'none' where loss.adaptive_weights is False: without weights the negative "
                "pairs are the positive ones, and their ratio is constant"
            )
        if self.ssim_window < 3 or self.ssim_window % 2 == 0:
            raise ValueError(f"loss.ssim_window must be odd and at least 3, got {self.ssim_window}")
