"""Structural similarity of batches: the twin of `rpfnet_jax.metrics.structural`."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from rpfnet_jax.metrics.batched.windows import average, moments
from rpfnet_jax.metrics.structural import C1, C2, GAUSSIAN, MS_SSIM_MIN_SIZE, SCALE_WEIGHTS, WINDOW

_SIDES = ("i", "v")
_PAIRS = (("i", "i"), ("v", "v"), ("f", "f"), ("i", "f"), ("v", "f"))


def structure(
    fused: UInt8[Array, "b h w"], ir: UInt8[Array, "b h w"], vis: UInt8[Array, "b h w"]
) -> dict[str, Float32[Array, " b"]]:
    """The columns `ssim` and `ms_ssim` of `measure`; the latter is NaN below 161 x 161 pixels."""
    images = {name: image.astype(jnp.float32) for name, image in (("f", fused), ("i", ir), ("v", vis))}
    sample = WINDOW**2 / (WINDOW**2 - 1)
    ssim = [average(luminance * structure) for luminance, structure in _terms(images, [1 / WINDOW] * WINDOW, sample)]
    columns = {"ssim": ssim[0] + ssim[1]}

    products = [jnp.ones(len(fused)) for _ in _SIDES]
    if min(fused.shape[1:]) < MS_SSIM_MIN_SIZE:
        return columns | {"ms_ssim": jnp.full(len(fused), jnp.nan)}
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale > 0:
            images = {name: _halve(image) for name, image in images.items()}
        coarsest = scale == len(SCALE_WEIGHTS) - 1
        for side, (luminance, structure) in enumerate(_terms(images, GAUSSIAN.tolist(), 1.0)):
            mean = average(luminance * structure if coarsest else structure)
            products[side] *= jnp.maximum(mean, 0.0) ** weight
    return columns | {"ms_ssim": products[0] + products[1]}


def _terms(images: dict[str, Array], taps: Sequence[float], sample: float) -> list[tuple[Array, Array]]:
    """Luminance and contrast-structure terms of every window, for IR and for VIS."""
    mean, covariance = moments(images, _PAIRS, taps)
    terms = []
    for side in _SIDES:
        variances = covariance[side, side] + covariance["f", "f"]
        structure = (2 * sample * covariance[side, "f"] + C2) / (sample * variances + C2)
        luminance = (2 * mean[side] * mean["f"] + C1) / (mean[side] ** 2 + mean["f"] ** 2 + C1)
        terms.append((luminance, structure))
    return terms


def _halve(image: Array) -> Array:
    even = jnp.pad(image, ((0, 0), (0, image.shape[1] % 2), (0, image.shape[2] % 2)), mode="edge")
    batch, height, width = even.shape
    return even.reshape(batch, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
