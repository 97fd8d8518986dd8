"""Frequency contrastive loss L_c with adaptive weights w (Eq. 9-12)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex64, Float

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.moments import batch_mean, check_images, mean_and_deviation
from rpfnet_jax.ops import Images, Scalar

_Pairs = tuple[tuple[str, str], ...]

# Eq. 11 and 12; the suffixes w and c stand for the factors w and w~.
_POSITIVES: _Pairs = (("fused_w", "ir_w"), ("fused_c", "vis_c"))
_NEGATIVES: dict[str, _Pairs] = {
    "released": (("fused_w", "ir_c"), ("fused_w", "vis_w"), ("fused_c", "ir_c"), ("fused_c", "vis_w")),
    "printed": (("fused_w", "ir_c"), ("fused_w", "vis_w"), ("fused_c", "ir_w"), ("fused_c", "vis_c")),
    "none": (),
}


def adaptive_weight(ir: Images, vis_y: Images, config: LossConfig = LossConfig()) -> Images:
    """Computes w of Eq. 9: 1 where the enhanced saliency S_en exceeds its mean plus one deviation, else 0. No gradient.

    S_x = sigmoid((x - mu)/sigma) for x = IR and x = M = IR - VIS_Y; S_en = (S_IR(1 +- S_M) + S_M(1 +- S_IR))/2 with the
    sign of `config.weight_signs`. A flat image has sigma = 0; its S is then sigmoid(0), which exceeds no threshold.
    """
    check_images(ir, vis_y)
    ir, vis_y = jax.lax.stop_gradient((ir, vis_y))
    s_ir = jax.nn.sigmoid(_standardised(ir, config))
    s_residual = jax.nn.sigmoid(_standardised(ir - vis_y, config))
    sign = 1.0 if config.weight_signs == "plus" else -1.0
    enhanced = (s_ir * (1 + sign * s_residual) + s_residual * (1 + sign * s_ir)) / 2
    mean, deviation = mean_and_deviation(enhanced, config)
    return (enhanced > mean + deviation).astype(ir.dtype)


def spectral_l1(difference: Complex64[Array, "b h v 1"], width: int) -> Float[Array, " b"]:
    """Averages the modulus over the full 2-D spectrum of each image, given its half (v = width // 2 + 1).

    The images are real, so each column but the first (and, for even widths, the last) stands for two. For the half
    spectrum of a - b the result is mean(|fft2(a) - fft2(b)|). The gradient at 0 is 0, as torch defines it for complex
    numbers.
    """
    power = jnp.square(difference.real) + jnp.square(difference.imag)
    positive = power > 0
    modulus = jnp.where(positive, jnp.sqrt(jnp.where(positive, power, 1.0)), 0.0)
    return jnp.sum(modulus * _column_weights(width), axis=(1, 2, 3)) / (difference.shape[1] * width)


def contrastive_distances(
    fused: Images, ir: Images, vis_y: Images, config: LossConfig = LossConfig()
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Computes D_pos and D_neg of Eq. 11 for each image: l1 distances of spectra, averaged over the frequencies.

    Positive pairs: (F*w, IR*w) and (F*w~, VIS*w~), with w~ = 1 - w. Negative pairs, Eq. 12: `config.negatives`; D_neg
    is 0 without any. Without `config.adaptive_weights` w = w~ = 1. With `config.domain` = `spatial` the distances are
    those of the pixels, averaged over the image.
    """
    check_images(fused, ir, vis_y)
    parts = _parts(fused, ir, vis_y, config)

    def total(pairs: _Pairs) -> Float[Array, " b"]:
        distances = (_distance(parts[a] - parts[b], fused.shape[2], config) for a, b in pairs)
        return sum(distances, start=jnp.zeros(len(fused), fused.dtype))

    return total(_POSITIVES), total(_NEGATIVES[config.negatives])


def contrastive_loss(fused: Images, ir: Images, vis_y: Images, config: LossConfig = LossConfig()) -> Scalar:
    """Computes L_c, Eq. 10: D_pos / (D_neg + epsilon), per image and averaged, or of the batch's mean distances.

    With `config.negatives` = `none` it is D_pos, divided in the frequency domain by the square root of the number of
    pixels. That is the distance under orthonormal transforms; under plain ones it would grow with the image and drown
    L_s.
    """
    positive, negative = contrastive_distances(fused, ir, vis_y, config)
    if config.scope == "batch":
        positive, negative = batch_mean(positive, config), batch_mean(negative, config)
    if config.negatives == "none":
        pixels = fused.shape[1] * fused.shape[2] if config.domain == "frequency" else 1
        return batch_mean(positive, config) / math.sqrt(pixels)
    return batch_mean(positive / (negative + config.epsilon), config)


def _parts(fused: Array, ir: Array, vis_y: Array, config: LossConfig) -> dict[str, Array]:
    """Makes the elements of all pairs, in the domain of the distances: `fused_w` is F*w, `fused_c` F*w~, and so on."""
    images = {"fused": fused, "ir": ir, "vis": vis_y}
    weight = adaptive_weight(ir, vis_y, config) if config.adaptive_weights else None
    # Without weights both parts are the whole image.
    weighted = {} if weight is None else {f"{name}_w": image * weight for name, image in images.items()}
    maps = images | weighted
    if config.domain == "frequency":
        spectra = jnp.fft.rfft2(jnp.concatenate(list(maps.values()), axis=-1), axes=(1, 2))
        maps = dict(zip(maps, jnp.split(spectra, len(maps), axis=-1), strict=True))
    for name in images:
        whole = maps[name]
        maps[f"{name}_w"] = maps.get(f"{name}_w", whole)
        # The transform is linear: FFT(x * w~) = FFT(x) - FFT(x * w).
        maps[f"{name}_c"] = whole - maps[f"{name}_w"] if weighted else whole
    return maps


def _distance(difference: Array, width: int, config: LossConfig) -> Float[Array, " b"]:
    if config.domain == "frequency":
        return spectral_l1(difference, width)
    # The gradient at 0 is 0, as in torch; JAX's would be 1.
    return jnp.mean(jnp.where(difference == 0, 0.0, jnp.abs(difference)), axis=(1, 2, 3))


def _standardised(x: Array, config: LossConfig) -> Array:
    mean, deviation = mean_and_deviation(x, config)
    return (x - mean) / jnp.where(deviation > 0, deviation, 1.0)


def _column_weights(width: int) -> Float[np.ndarray, "v 1"]:
    """Counts how often each column of a half spectrum occurs in the full one."""
    weights = np.full((width // 2 + 1, 1), 2.0, np.float32)
    weights[0] = 1.0
    if width % 2 == 0:
        weights[-1] = 1.0
    return weights
