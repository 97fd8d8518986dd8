"""Visual information fidelity of batches: the twin of `rpfnet_jax.metrics.fidelity`, which explains it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from rpfnet_jax.metrics.batched.windows import Moments, blur, moments, total
from rpfnet_jax.metrics.fidelity import (
    BLOCK_FLOOR,
    TINY,
    VIFF_NOISE,
    VIFF_SCALE_WEIGHTS,
    VIFP_NOISE,
    WINDOW_SIZES,
    gaussian,
)

_PAIRS = (("i", "i"), ("v", "v"), ("f", "f"), ("i", "f"), ("v", "f"))


class _Channel(NamedTuple):
    """See `rpfnet_jax.metrics.fidelity`."""

    gain: Array
    source: Array
    residual: Array

    def seen_in_source(self, noise: float) -> Array:
        return jnp.log1p(self.source / noise)

    def seen_in_fused(self, noise: float) -> Array:
        return jnp.log1p(self.gain**2 * self.source / (self.residual + noise))


def fidelity(
    fused: UInt8[Array, "b h w"], ir: UInt8[Array, "b h w"], vis: UInt8[Array, "b h w"]
) -> dict[str, Float32[Array, " b"]]:
    """`viff` and `vifp_sum` of each image under both protocols, which share their windows.

    Returns:
        The columns `viff_standard`, `viff_paper`, `vifp_standard` and `vifp_paper` of `measure`.
    """
    protocols, nothing = ("standard", "paper"), jnp.zeros(len(fused))
    seen = {(side, protocol): nothing for side in "iv" for protocol in protocols}
    available = dict(seen)
    viff = dict.fromkeys(protocols, nothing)
    for scale, (images, taps) in enumerate(_scales({"f": fused, "i": ir, "v": vis})):
        found = moments(images, _PAIRS, taps)
        # Of the `paper` protocol only the finest scale differs.
        saturated = _saturated(images, found, taps) if scale == 0 else found
        for protocol, used in (("standard", found), ("paper", saturated)):
            for side in "iv":
                channel = _channel(used, side, TINY)
                seen[side, protocol] += total(channel.seen_in_fused(VIFP_NOISE))
                available[side, protocol] += total(channel.seen_in_source(VIFP_NOISE))
        for protocol, unit in (("standard", 1.0), ("paper", 255.0**2)):
            if VIFF_SCALE_WEIGHTS[scale]:
                viff[protocol] += float(VIFF_SCALE_WEIGHTS[scale]) * _viff_ratio(found, unit)
    columns = {f"viff_{protocol}": value for protocol, value in viff.items()}
    for protocol in protocols:
        from_ir, from_vis = (_ratio(seen[side, protocol], available[side, protocol]) for side in "iv")
        columns[f"vifp_{protocol}"] = from_ir + from_vis
    return columns


def _scales(images: dict[str, Array]) -> Iterator[tuple[dict[str, Array], list[float]]]:
    images = {name: image.astype(jnp.float32) for name, image in images.items()}
    for scale, size in enumerate(WINDOW_SIZES):
        taps = gaussian(size).tolist()
        if scale > 0:
            images = {name: blur(image, taps)[:, ::2, ::2] for name, image in images.items()}
        yield images, taps


def _saturated(images: dict[str, Array], found: Moments, taps: list[float]) -> Moments:
    """min(x·y, 255) = x·y - max(x·y - 255, 0): what saturation takes away is subtracted from the covariance."""
    excess = {(a, b): blur(jnp.maximum(images[a] * images[b] - 255.0, 0.0), taps) for a, b in _PAIRS}
    return Moments(found.mean, {pair: found.covariance[pair] - excess[pair] for pair in _PAIRS})


def _channel(found: Moments, side: str, tiny: float) -> _Channel:
    variance_s = jnp.maximum(found.covariance[side, side], 0.0)
    variance_f = jnp.maximum(found.covariance["f", "f"], 0.0)
    covariance = found.covariance[side, "f"]
    gain = covariance / (variance_s + tiny)
    residual = variance_f - gain * covariance
    flat_s, flat_f = variance_s < tiny, variance_f < tiny
    unrelated = flat_s | flat_f | (gain < 0)
    gain = jnp.where(unrelated, 0.0, gain)
    residual = jnp.maximum(jnp.where(unrelated, variance_f, residual), tiny)
    return _Channel(gain, jnp.where(flat_s, 0.0, variance_s), residual)


def _viff_ratio(found: Moments, unit: float) -> Array:
    """Of one scale; dividing the images by a unit multiplies the constants by its square."""
    from_ir, from_vis = (_channel(found, side, TINY * unit) for side in "iv")
    noise = VIFF_NOISE * unit
    take_ir = from_ir.gain < from_vis.gain
    seen = jnp.where(take_ir, from_ir.seen_in_fused(noise), from_vis.seen_in_fused(noise))
    available = jnp.where(take_ir, from_ir.seen_in_source(noise), from_vis.seen_in_source(noise))
    # Natural logarithms here, decimal ones there.
    floor = BLOCK_FLOOR * math.log(10)
    return total(seen + floor) / total(available + floor)


def _ratio(seen: Array, available: Array) -> Array:
    return jnp.where(available > 0, seen / jnp.where(available > 0, available, 1.0), 1.0)
