"""Weighted means and covariances in sliding windows, and sums, that float32 can bear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

Images = Float32[Array, "b h w"]


class Moments(NamedTuple):
    """What windows inside the image hold, one entry per window.

    Attributes:
        mean: name of an image -> weighted mean.
        covariance: names of two images -> weighted covariance; of one image with itself, the variance.
    """

    mean: dict[str, Array]
    covariance: dict[tuple[str, str], Array]


def moments(images: Mapping[str, Images], pairs: Sequence[tuple[str, str]], taps: Sequence[float]) -> Moments:
    """Means of all images and covariances of some pairs under a separable window.

    E[xy] - E[x]·E[y] cancels in float32: 8-bit products reach 65025, and a variance of 1 is what counts. So everything
    is taken relative to the pixel in the middle of the window, first along the rows, then, by the law of total
    covariance, along the columns. Windows of one level come out exact: variance 0, mean the level.

    Args:
        images: float32 (b, h, w) each.
        pairs: names of two images each.
        taps: weights along one axis, an odd number with sum 1.
    """
    rows = {name: _offsets(image, len(taps), axis=2) for name, image in images.items()}
    row_shift = {name: _weigh(offsets, taps) for name, offsets in rows.items()}
    row_mean = {name: _middle(image, len(taps), axis=2) + row_shift[name] for name, image in images.items()}
    row_covariance = {(a, b): _covariance(rows, row_shift, a, b, taps) for a, b in pairs}

    columns = {name: _offsets(mean, len(taps), axis=1) for name, mean in row_mean.items()}
    shift = {name: _weigh(offsets, taps) for name, offsets in columns.items()}
    mean = {name: _middle(image, len(taps), axis=1) + shift[name] for name, image in row_mean.items()}
    within = {pair: _weigh(_slices(image, len(taps), axis=1), taps) for pair, image in row_covariance.items()}
    return Moments(mean, {(a, b): within[a, b] + _covariance(columns, shift, a, b, taps) for a, b in pairs})


def blur(image: Images, taps: Sequence[float]) -> Array:
    """Weighted mean of each window inside the image; exact where all pixels of a window are equal."""
    for axis in (2, 1):
        image = _middle(image, len(taps), axis) + _weigh(_offsets(image, len(taps), axis), taps)
    return image


def total(image: Float32[Array, "b h w"]) -> Float32[Array, " b"]:
    """Sum over each image, rows first: one long float32 sum would lose digits."""
    # Without the barrier XLA makes one sum of the two.
    return jnp.sum(jax.lax.optimization_barrier(jnp.sum(image, axis=2)), axis=1)


def average(image: Float32[Array, "b h w"]) -> Float32[Array, " b"]:
    """Mean over each image."""
    return total(image) / (image.shape[1] * image.shape[2])


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
