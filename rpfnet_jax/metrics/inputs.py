"""Images as the metrics take them: conversion to 8-bit grey, and the checks."""

from typing import Literal, TypeAlias

import chex
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped, UInt8

Gray: TypeAlias = UInt8[np.ndarray, "h w"]
GrayBatch: TypeAlias = UInt8[Array, "b h w"]
Columns: TypeAlias = dict[str, Float32[Array, " b"]]
"""Column name -> one value per image, as the jitted twins return them."""

Protocol = Literal["standard", "paper"]


def check_gray8(*images: Shaped[np.ndarray, "..."], min_size: int = 1) -> None:
    """Refuses anything but 8-bit grey images of one size.

    NumPy would silently broadcast some mismatched shapes, and a float image in [0, 1] would give plausible nonsense,
    so every metric calls this first.

    Args:
        *images: arrays that should be uint8 of shape (h, w), all alike.
        min_size: the smallest height and width allowed, in pixels.

    Raises:
        ValueError: a dtype is not uint8, an array is not 2-D, shapes differ (the message names them), or a side is
            shorter than `min_size`.
    """
    shapes = [image.shape for image in images]
    for image in images:
        if image.dtype != np.uint8:
            raise ValueError(f"metrics need uint8 images, got {image.dtype} of shape {image.shape}; see to_gray8")
        if image.ndim != 2:
            raise ValueError(f"metrics need grey images of shape (h, w), got {image.shape}; see to_gray8")
    if len(set(shapes)) > 1:
        raise ValueError(f"images must have one size, got {' and '.join(map(str, shapes))}")
    if shapes and min(shapes[0]) < min_size:
        raise ValueError(f"images must be at least {min_size} pixels high and wide, got {shapes[0]}")


def check_protocol(protocol: str) -> None:
    """Raises ValueError for any name but "standard" and "paper"."""
    if protocol not in ("standard", "paper"):
        raise ValueError(f"protocol must be 'standard' or 'paper', got {protocol!r}")


def check_batch(fused: Array, ir: Array, vis: Array) -> None:
    """Asserts, while a twin is traced, that the three batches have one shape (b, h, w) and hold 8-bit levels."""
    chex.assert_rank((fused, ir, vis), 3)
    chex.assert_equal_shape((fused, ir, vis))
    chex.assert_type((fused, ir, vis), np.uint8)


# ITU-R BT.601 luma as MATLAB's rgb2gray derives it: the first row of the inverse of its rounded YIQ matrix,
# hence not the round 0.299, 0.587, 0.114.
_LUMA = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])

# float32 colour arithmetic overshoots [0, 1] by a few ulp; anything beyond that is an image on another scale.
_OVERSHOOT = 1e-6


def to_gray8(image: UInt8[np.ndarray, "h w *c"] | Float[np.ndarray, "h w *c"]) -> Gray:
    """Converts an image to 8-bit grey as MATLAB's `rgb2gray` does.

    A float image is quantised before it is converted to grey, as if it had been saved as PNG and scored later. All
    rounding is half to even.

    Args:
        image: shape (h, w), (h, w, 1) or (h, w, 3) (RGB); uint8, or floating point in [0, 1].

    Returns:
        The grey image. A uint8 input that is grey already is returned without a copy.

    Raises:
        ValueError: another dtype or shape, or a float image with values outside [0, 1] or not finite.
    """
    if np.issubdtype(image.dtype, np.floating):
        # Written so that NaN fails too.
        if image.size and not (image.min() >= -_OVERSHOOT and image.max() <= 1 + _OVERSHOOT):
            raise ValueError(f"float images must lie in [0, 1], got [{image.min()}, {image.max()}]")
        image = np.rint(255.0 * np.clip(image.astype(np.float64), 0.0, 1.0)).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ValueError(f"expected a uint8 or floating point image, got {image.dtype}")
    if image.ndim == 2:
        return image
    if image.ndim == 3 and image.shape[2] == 1:
        return image[..., 0]
    if image.ndim == 3 and image.shape[2] == 3:
        return np.rint(image @ _LUMA).astype(np.uint8)
    raise ValueError(f"expected shape (h, w), (h, w, 1) or (h, w, 3), got {image.shape}")
