"""The objective's configuration: the two readings of the losses and the paper's errata as named fields."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

Scope = Literal["image", "batch"]


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Every choice of the objective. The defaults are the `paper` reading, its two errata mended.

    Attributes:
        lambda1: weight of the texture term in Eq. 6.
        lambda2: weight of the structure loss in Eq. 8; 0 leaves L_s out altogether (ablation, Case 1).
        epsilon: added to the denominator of Eq. 10.
        scope: what means, standard deviations, maxima and norms run over: each `image` (then the loss of a batch
            is the mean of its images' losses), or the whole `batch` (released code; deviations with ddof = 1).
        saliency: Eq. 6-7 with l2 norms as root mean squares (`rms`), or the released code's mean squared error of
            max-normalised gradients and plain means (`mse`).
        weight_signs: signs inside S_en of Eq. 9: `plus` (released code) or `minus` as `printed`. The printed ones
            leave out nearly all hot pixels: an erratum.
        negatives: the four negative pairs of Eq. 12: those of the `released` code, or the `printed` ones, of which
            the last is also a positive pair: an erratum. `none`: L_c is D_pos alone, without a denominator: no
            contrast (ablation, Case 2).
        domain: where the l1 distances of Eq. 11 are taken: between spectra (`frequency`) or, between the same pairs,
            pixel by pixel (`spatial`; ablation, Case 3).
        adaptive_weights: False: w = w~ = 1, F is drawn to both whole sources, D_pos = d(F, IR) + d(F, VIS_Y)
            (ablation, Case 4: "directly enforcing feature constraints between source images"). All negative pairs
            are then positive ones and Eq. 10 is the constant 1/2 whatever F: needs `negatives` = `none`.
        auxiliary: False leaves L_SS out, and with it the auxiliary decoder (ablation, Case 5).
        ssim_window: side of the Gaussian SSIM window, sigma 1.5.
        ssim_padding: `valid` windows only, or `reflect` at the borders.
        ssim_loss: `one_minus` SSIM per source, or `half_clipped`: clip((1 - SSIM)/2, 0, 1).
        contrastive: weight of L_c in Eq. 8, where the paper has none; 0 leaves it out.
        intensity: weight of `intensity_loss`, which the paper does not have; 0 leaves it out.
        target: what `intensity_loss` draws F to, the `maximum` of both sources or their `exposed_sum`.
        texture: weight of `texture_loss`, likewise.
        difference_correlation: weight of `difference_correlation_loss`, likewise.
        axis: the mesh axis that the batch is spread over, inside `jax.shard_map`; None: all of the batch is here. No
            choice of the objective: every loss is that of the whole batch either way, gradients included.
    """

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
        for name, hint in get_type_hints(type(self)).items():
            choices = get_args(hint) if get_origin(hint) is Literal else ()
            if choices and getattr(self, name) not in choices:
                raise ValueError(f"loss.{name} must be one of {choices}, got {getattr(self, name)!r}")
        for name in ("adaptive_weights", "auxiliary"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"loss.{name} must be bool, got {getattr(self, name)!r}")
        # Written so that NaN fails it, too.
        for name in ("lambda2", "contrastive", "intensity", "texture", "difference_correlation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"loss.{name} must be finite and not negative, got {getattr(self, name)}")
        if not self.adaptive_weights and self.negatives != "none":
            raise ValueError(
                "loss.negatives must be 'none' where loss.adaptive_weights is False: without weights the negative "
                "pairs are the positive ones, and their ratio is constant"
            )
        if self.ssim_window < 3 or self.ssim_window % 2 == 0:
            raise ValueError(f"loss.ssim_window must be odd and at least 3, got {self.ssim_window}")

    @classmethod
    def preset(cls, reading: str, **overrides: Any) -> LossConfig:
        """The objective of one reading, `paper` or `released`, with single fields replaced (None keeps a field).

        Raises:
            ValueError: unknown reading, or a value that a field does not take.
            TypeError: a field that does not exist.
        """
        if reading not in _READINGS:
            raise ValueError(f"loss.reading must be one of {sorted(_READINGS)}, got {reading!r}")
        chosen = {name: value for name, value in overrides.items() if value is not None}
        return cls(**{**_READINGS[reading], **chosen})


_READINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {
        "epsilon": 1e-10,
        "scope": "batch",
        "saliency": "mse",
        "ssim_window": 3,
        "ssim_padding": "reflect",
        "ssim_loss": "half_clipped",
    },
}
