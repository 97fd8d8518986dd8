"""Frequency contrastive loss L_c with adaptive weights w (Eq. 9-12)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex64, Float

from rpfnet_jax.losses.config import LossConfig, Scope
from rpfnet_jax.losses.statistics import mean_and_deviation


def adaptive_weight(
    ir: Float[Array, "b h w 1"], vis_y: Float[Array, "b h w 1"], config: LossConfig = LossConfig()
) -> Float[Array, "b h w 1"]:
    """w of Eq. 9: 1 where the enhanced saliency S_en exceeds its mean plus one deviation, else 0. No gradient.

    S_x = sigmoid((x - mu)/sigma) for x = IR and x = M = IR - VIS_Y; S_en = (S_IR(1 +- S_M) + S_M(1 +- S_IR))/2 with the
    sign of `config.weight_signs`. A flat image has sigma = 0; its S is then sigmoid(0) and it contributes no pixel.
    """
    ir, vis_y = jax.lax.stop_gradient((ir, vis_y))
    s_ir = jax.nn.sigmoid(_standardised(ir, config.scope))
    s_residual = jax.nn.sigmoid(_standardised(ir - vis_y, config.scope))
    sign = 1.0 if config.weight_signs == "plus" else -1.0
    enhanced = (s_ir * (1 + sign * s_residual) + s_residual * (1 + sign * s_ir)) / 2
    mean, deviation = mean_and_deviation(enhanced, config.scope)
    return (enhanced > mean + deviation).astype(ir.dtype)


def spectral_l1(difference: Complex64[Array, "b h v 1"], width: int) -> Float[Array, " b"]:
    """Mean modulus over the full 2-D spectrum of each image, from its half spectrum (v = width // 2 + 1).

    The images are real, so each column but the first (and, for even widths, the last) stands for two. Equals
    mean(|fft2(a) - fft2(b)|). The gradient at 0 is 0, as torch has it for the modulus of a complex number.
    """
    power = jnp.square(difference.real) + jnp.square(difference.imag)
    positive = power > 0
    modulus = jnp.where(positive, jnp.sqrt(jnp.where(positive, power, 1.0)), 0.0)
    return jnp.sum(modulus * _column_weights(width), axis=(1, 2, 3)) / (difference.shape[1] * width)


def contrastive_distances(
    fused: Float[Array, "b h w 1"],
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    config: LossConfig = LossConfig(),
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """D_pos and D_neg of Eq. 11 for each image: l1 distances of spectra, averaged over the frequencies.

    Positive pairs: (F*w, IR*w) and (F*w~, VIS*w~), with w~ = 1 - w. Negative pairs, Eq. 12: `config.negatives`.
    """
    weight = adaptive_weight(ir, vis_y, config)
    width = fused.shape[2]
    # The transform is linear: FFT(x * w~) = FFT(x) - FFT(x * w).
    maps = jnp.concatenate([fused * weight, fused, ir * weight, ir, vis_y * weight, vis_y], axis=-1)
    spectra = jnp.split(jnp.fft.rfft2(maps, axes=(1, 2)), 6, axis=-1)
    fused_w, ir_w, vis_w = spectra[0], spectra[2], spectra[4]
    fused_c, ir_c, vis_c = spectra[1] - fused_w, spectra[3] - ir_w, spectra[5] - vis_w

    negatives = [(fused_w, ir_c), (fused_w, vis_w)]
    if config.negatives == "released":
        negatives += [(fused_c, ir_c), (fused_c, vis_w)]
    else:
        negatives += [(fused_c, ir_w), (fused_c, vis_c)]
    positive = spectral_l1(fused_w - ir_w, width) + spectral_l1(fused_c - vis_c, width)
    negative = sum((spectral_l1(a - b, width) for a, b in negatives), start=jnp.zeros_like(positive))
    return positive, negative


def contrastive_loss(
    fused: Float[Array, "b h w 1"],
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    config: LossConfig = LossConfig(),
) -> Float[Array, ""]:
    """L_c, Eq. 10: D_pos / (D_neg + epsilon), per image and averaged, or of the batch's mean distances.

    Args:
        fused: fused luminance F in [0, 1].
        ir: infrared image, same shape and range.
        vis_y: luminance of the visible image, same shape and range.
        config: `scope`, `weight_signs`, `negatives` and `epsilon` are used.
    """
    positive, negative = contrastive_distances(fused, ir, vis_y, config)
    if config.scope == "batch":
        positive, negative = jnp.mean(positive), jnp.mean(negative)
    return jnp.mean(positive / (negative + config.epsilon))


def _standardised(x: Array, scope: Scope) -> Array:
    mean, deviation = mean_and_deviation(x, scope)
    return (x - mean) / jnp.where(deviation > 0, deviation, 1.0)


def _column_weights(width: int) -> Float[np.ndarray, "v 1"]:
    weights = np.full((width // 2 + 1, 1), 2.0, np.float32)
    weights[0] = 1.0
    if width % 2 == 0:
        weights[-1] = 1.0
    return weights
