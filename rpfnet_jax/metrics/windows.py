"""Means and covariances in sliding windows, accurate in float32: what the jitted twins share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

Images = Float32[Array, "b h w"]

PAIRS = (("ir", "ir"), ("vis", "vis"), ("fused", "fused"), ("ir", "fused"), ("vis", "fused"))
"""The variances and covariances that compare a fused image with its sources."""


def named(fused: Array, ir: Array, vis: Array) -> dict[str, Images]:
    """Converts the three batches to float32 and names them as in `PAIRS`."""
    return {name: image.astype(jnp.float32) for name, image in (("fused", fused), ("ir", ir), ("vis", vis))}


class Moments(NamedTuple):
    """Moments of every window that lies inside the image.

    Attributes:
        mean: name of an image -> weighted mean.
        covariance: names of two images -> weighted covariance; of an image with itself, its variance.
    """

    mean: dict[str, Array]
    covariance: dict[tuple[str, str], Array]


def moments(images: Mapping[str, Images], taps: Sequence[float]) -> Moments:
    """Computes the means of all images and the covariances of `PAIRS` under a separable window.

    E[xy] - E[x]·E[y] cancels in float32: 8-bit products reach 65025, while a variance of 1 matters. So everything is
    taken relative to the pixel in the middle of the window, first along the rows, then, by the law of total
    covariance, along the columns. A window of one grey level comes out exact: variance 0, mean that level.

    Args:
        images: the images by name, see `named`.
        taps: weights along one axis, an odd number with sum 1.
    """
    rows = {name: _offsets(image, len(taps), axis=2) for name, image in images.items()}
    row_shift = {name: _weigh(offsets, taps) for name, offsets in rows.items()}
    row_mean = {name: _middle(image, len(taps), axis=2) + row_shift[name] for name, image in images.items()}
    row_covariance = {(a, b): _covariance(rows, row_shift, a, b, taps) for a, b in PAIRS}

    columns = {name: _offsets(mean, len(taps), axis=1) for name, mean in row_mean.items()}
    shift = {name: _weigh(offsets, taps) for name, offsets in columns.items()}
    mean = {name: _middle(image, len(taps), axis=1) + shift[name] for name, image in row_mean.items()}
    within = {pair: _weigh(_slices(image, len(taps), axis=1), taps) for pair, image in row_covariance.items()}
    return Moments(mean, {(a, b): within[a, b] + _covariance(columns, shift, a, b, taps) for a, b in PAIRS})


def blur(image: Images, taps: Sequence[float]) -> Array:
    """Returns the weighted mean of each window inside the image; exact where all pixels of a window are equal."""
    for axis in (2, 1):
        image = _middle(image, len(taps), axis) + _weigh(_offsets(image, len(taps), axis), taps)
    return image


def total(image: Images) -> Float32[Array, " b"]:
    """Sums each image, rows first: one long float32 sum would lose digits."""
    # Without the barrier XLA would merge the two sums into one.
    return jnp.sum(jax.lax.optimization_barrier(jnp.sum(image, axis=2)), axis=1)


def average(image: Images) -> Float32[Array, " b"]:
    """Averages each image."""
    return total(image) / (image.shape[1] * image.shape[2])


def ratio(numerator: Array, denominator: Array, otherwise: float) -> Array:
    """Divides, and returns `otherwise` where the denominator is not positive."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1.0), otherwise)


def _covariance(offsets: Mapping, shift: Mapping, a: str, b: str, taps: Sequence[float]) -> Array:
    products = [x * y for x, y in zip(offsets[a], offsets[b], strict=True)]
    return _weigh(products, taps) - shift[a] * shift[b]


def _weigh(slices: Sequence[Array], taps: Sequence[float]) -> Array:
    return sum(jnp.float32(tap) * part for tap, part in zip(taps, slices, strict=True))


def _slices(image: Array, count: int, axis: int) -> list[Array]:
    length = image.shape[axis] - count + 1
    return [jax.lax.slice_in_dim(image, start, start + length, axis=axis) for start in range(count)]


def _middle(image: Array, count: int, axis: int) -> Array:
    return _slices(image, count, axis)[count // 2]


def _offsets(image: Array, count: int, axis: int) -> list[Array]:
    slices = _slices(image, count, axis)
    return [part - slices[count // 2] for part in slices]
