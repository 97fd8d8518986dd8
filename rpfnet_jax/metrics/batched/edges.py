"""Edge preservation and fusion artefacts of batches: the twin of `rpfnet_jax.metrics.edges`."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from rpfnet_jax.metrics.batched.windows import total
from rpfnet_jax.metrics.edges import (
    NABF_LEAST_WEIGHT,
    NABF_ORIENTATION,
    NABF_POWER,
    NABF_STRENGTH,
    NABF_THRESHOLD,
    QABF_ORIENTATION,
    QABF_STRENGTH,
    Sigmoid,
)


class _Edges(NamedTuple):
    """See `rpfnet_jax.metrics.edges`; `power` is the squared strength, a whole number and exact."""

    power: Array
    orientation: Array

    @property
    def strength(self) -> Array:
        return jnp.sqrt(self.power)


def edges(
    fused: UInt8[Array, "b h w"], ir: UInt8[Array, "b h w"], vis: UInt8[Array, "b h w"]
) -> dict[str, Float32[Array, " b"]]:
    """The columns `qabf` and `nabf` of `measure`."""
    return {"qabf": _qabf(fused, ir, vis), "nabf": _nabf(fused, ir, vis)}


def _qabf(fused: Array, ir: Array, vis: Array) -> Array:
    found = _find(fused, "constant")
    kept, available = jnp.zeros(len(fused)), jnp.zeros(len(fused))
    for source in (_find(ir, "constant"), _find(vis, "constant")):
        ratio = jnp.where(source.power == found.power, 1.0, _strength_ratio(source, found))
        quality = _sigmoid(QABF_STRENGTH, ratio) * _sigmoid(QABF_ORIENTATION, 1 - _turn(source, found))
        kept += total(quality * source.strength)
        available += total(source.strength)
    return jnp.where(available > 0, kept / jnp.where(available > 0, available, 1.0), 0.0)


def _nabf(fused: Array, ir: Array, vis: Array) -> Array:
    found, sources = _find(fused, "reflect"), [_find(ir, "reflect"), _find(vis, "reflect")]
    new = (found.power > sources[0].power) & (found.power > sources[1].power)
    lost, available = jnp.zeros(len(fused)), jnp.zeros(len(fused))
    for source in sources:
        alignment = jnp.abs(_turn(source, found) - 1)
        lost_strength = _one_minus_sigmoid(NABF_STRENGTH, _strength_ratio(source, found))
        lost_orientation = _one_minus_sigmoid(NABF_ORIENTATION, alignment)
        # 1 - quality² first: quality is close to 1, and the difference would keep four digits.
        missing = lost_strength + lost_orientation - lost_strength * lost_orientation
        missing /= 1 + jnp.sqrt(1 - missing)
        strong = source.power >= (8 * NABF_THRESHOLD) ** 2
        weight = jnp.where(strong, (source.power / 64) ** (NABF_POWER / 2), NABF_LEAST_WEIGHT)
        lost += total(jnp.where(new, missing * weight, 0.0))
        available += total(weight)
    return lost / available


def _find(image: Array, mode: str) -> _Edges:
    padded = jnp.pad(image.astype(jnp.float32), ((0, 0), (1, 1), (1, 1)), mode=mode)
    smooth_y = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth_x = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    dx, dy = smooth_y[:, :, 2:] - smooth_y[:, :, :-2], smooth_x[:, :-2] - smooth_x[:, 2:]
    flat = dx == 0
    orientation = jnp.where(flat, jnp.pi / 2, jnp.arctan(dy / jnp.where(flat, 1.0, dx)))
    return _Edges(dx**2 + dy**2, orientation)


def _sigmoid(parameters: Sigmoid, x: Array) -> Array:
    height, slope, centre = parameters
    return height / (1 + jnp.exp(slope * (x - centre)))


def _one_minus_sigmoid(parameters: Sigmoid, x: Array) -> Array:
    height, slope, centre = parameters
    exponential = jnp.exp(slope * (x - centre))
    return ((1 - height) + exponential) / (1 + exponential)


def _strength_ratio(source: _Edges, fused: _Edges) -> Array:
    stronger = jnp.maximum(source.power, fused.power)
    return jnp.sqrt(jnp.minimum(source.power, fused.power) / jnp.where(stronger > 0, stronger, 1.0))


def _turn(source: _Edges, fused: _Edges) -> Array:
    return jnp.abs(source.orientation - fused.orientation) / (jnp.pi / 2)
