"""Moments, differences and histograms of batches: the twins of `statistics`, `gradient`, `information` and `night`."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from rpfnet_jax.metrics.batched.windows import average, total
from rpfnet_jax.metrics.night import DARK_IR, DARK_VIS, HOT_QUANTILE

_LEVELS = 256


def statistics(
    fused: UInt8[Array, "b h w"], ir: UInt8[Array, "b h w"], vis: UInt8[Array, "b h w"]
) -> dict[str, Float32[Array, " b"]]:
    """The columns `sf_*`, `sd_*`, `cc`, `scd` and `ag` of `measure`."""
    f, i, v = (image.astype(jnp.float32) for image in (fused, ir, vis))
    return {
        "sf_standard": _spatial_frequency(f, saturate=False),
        "sf_paper": _spatial_frequency(f, saturate=True),
        "sd_standard": jnp.sqrt(average(_centred(f) ** 2)),
        "sd_paper": _saturated_deviation(fused),
        "cc": (_pearson(i, f) + _pearson(v, f)) / 2,
        "scd": _pearson(f - v, i) + _pearson(f - i, v),
        "ag": _average_gradient(f),
    }


def histograms(
    fused: UInt8[Array, "b h w"], ir: UInt8[Array, "b h w"], vis: UInt8[Array, "b h w"]
) -> dict[str, Float32[Array, " b"]]:
    """The columns `en`, `mi`, `dark_lift` and `target_keep` of `measure`."""
    with_ir, with_vis = _joint_counts(fused, ir), _joint_counts(fused, vis)
    of_fused, of_ir, of_vis = with_ir.sum(axis=2), with_ir.sum(axis=1), with_vis.sum(axis=1)
    pixels = fused.shape[1] * fused.shape[2]
    entropy = _entropy(of_fused, pixels)
    mutual = [
        jnp.maximum(entropy + _entropy(source, pixels) - _entropy(joint.reshape(len(joint), -1), pixels), 0.0)
        for joint, source in ((with_ir, of_ir), (with_vis, of_vis))
    ]
    return {
        "en": entropy,
        "mi": mutual[0] + mutual[1],
        "dark_lift": _dark_lift(fused, ir, vis),
        "target_keep": _target_keep(fused, ir, vis, of_ir),
    }


def _spatial_frequency(image: Array, saturate: bool) -> Array:
    power = jnp.zeros(len(image))
    for axis in (1, 2):
        difference = jnp.diff(image, axis=axis)
        square = jnp.minimum(jnp.maximum(difference, 0.0) ** 2, 255.0) if saturate else difference**2
        power += average(square)
    return jnp.sqrt(power)


def _centred(image: Array) -> Array:
    # Twice: the first mean is rounded, and what it leaves is small.
    image = image - average(image)[:, None, None]
    return image - average(image)[:, None, None]


def _saturated_deviation(image: Array) -> Array:
    levels = image.astype(jnp.int32)
    # level - mean, halves rounded up, in whole numbers: a rounded mean could move a whole grey level to the next. In
    # two steps, since the sum of a large picture's levels is beyond int32: sum = width * rows + rest.
    height, width = image.shape[1:]
    pixels = height * width
    rows, rest = (x.sum(axis=1, keepdims=True) for x in jnp.divmod(levels.sum(axis=2, keepdims=True), width))
    quotient, rows = jnp.divmod(rows, height)
    more, remainder = jnp.divmod(width * rows + rest, pixels)
    quotient += more
    above = jnp.clip(levels - quotient - (2 * remainder > pixels), 0, 255)
    return jnp.sqrt(average(jnp.minimum(above**2, 255).astype(jnp.float32)))


def _pearson(a: Array, b: Array) -> Array:
    a, b = _centred(a), _centred(b)
    norm = jnp.sqrt(total(a * a)) * jnp.sqrt(total(b * b))
    return jnp.where(norm > 0, total(a * b) / jnp.where(norm > 0, norm, 1.0), 0.0)


def _average_gradient(image: Array) -> Array:
    dy, dx = jnp.gradient(image, axis=(1, 2))
    height, width = image.shape[1:]
    return total(jnp.sqrt((dx**2 + dy**2) / 2)) / ((height - 1) * (width - 1))


def _joint_counts(a: Array, b: Array) -> Array:
    """Float32 (batch, 256, 256): pixels with each pair of levels."""
    cell = a.astype(jnp.int32) * _LEVELS + b
    counts = jax.vmap(lambda cells: jnp.zeros(_LEVELS**2, jnp.int32).at[cells].add(1))(cell.reshape(len(a), -1))
    return counts.reshape(-1, _LEVELS, _LEVELS)


def _entropy(counts: Array, pixels: int) -> Array:
    """Bits, over the last axis."""
    share = counts / pixels
    return jnp.maximum(-jnp.sum(jax.scipy.special.xlogy(share, share), axis=-1) / math.log(2), 0.0)


def _masked_mean(image: Array, mask: Array) -> Array:
    """NaN where the mask is empty. The sums are whole numbers and exact, in two halves that int32 has room for."""
    rows = jnp.where(mask, image.astype(jnp.int32), 0).sum(axis=2)
    high, low = (half.sum(axis=1) for half in jnp.divmod(rows, _LEVELS))
    return (_LEVELS * high.astype(jnp.float32) + low) / mask.sum(axis=(1, 2))


def _dark_lift(fused: Array, ir: Array, vis: Array) -> Array:
    dark = (ir < math.ceil(255 * DARK_IR)) & (vis < math.ceil(255 * DARK_VIS))
    return _masked_mean(fused, dark) / 255


def _target_keep(fused: Array, ir: Array, vis: Array, of_ir: Array) -> Array:
    # Levels between the two neighbours of the quantile don't occur, so the upper one decides.
    rank = math.ceil(HOT_QUANTILE * (fused.shape[1] * fused.shape[2] - 1))
    hottest = (jnp.cumsum(of_ir, axis=1) <= rank).sum(axis=1)
    hot = ir >= hottest[:, None, None]
    brightest = _masked_mean(jnp.maximum(ir, vis), hot)
    return jnp.where(brightest > 0, _masked_mean(fused, hot) / brightest, jnp.nan)
