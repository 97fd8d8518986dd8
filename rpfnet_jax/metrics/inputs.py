"""What every metric verifies before it computes: 8-bit grey images of one size, and a known protocol."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt8

Protocol = Literal["standard", "paper"]
"""`standard`: floating point, what a textbook says. `paper`: the saturating 8-bit arithmetic of the MATLAB
toolboxes whose numbers are printed in the literature on infrared and visible fusion. The two do not belong in
one table."""


def check_gray8(*images: Shaped[np.ndarray, "..."], min_size: int = 1) -> None:
    """Refuses anything but 8-bit grey images of one size.

    NumPy would broadcast some mismatched shapes without a word, and a float image in [0, 1] would give
    plausible nonsense, so the metrics call this first.

    Args:
        *images: arrays that should be uint8 of shape (h, w), all alike.
        min_size: the smallest height and width allowed, in pixels.

    Raises:
        ValueError: a dtype is not uint8, an array is not 2-D, shapes differ (the message names them), or a
            side is shorter than `min_size`.
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
    """Refuses an unknown protocol name.

    Args:
        protocol: "standard" or "paper".

    Raises:
        ValueError: any other name.
    """
    if protocol not in ("standard", "paper"):
        raise ValueError(f"protocol must be 'standard' or 'paper', got {protocol!r}")


# ITU-R BT.601 luma as MATLAB's rgb2gray derives it: the first row of the inverse of its rounded YIQ matrix,
# hence not the round 0.299, 0.587, 0.114.
_LUMA = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])

# float32 colour arithmetic overshoots [0, 1] by a few ulp; anything beyond that is an image on another scale.
_OVERSHOOT = 1e-6


def to_gray8(image: UInt8[np.ndarray, "h w *c"] | Float[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w"]:
    """Converts a picture to 8-bit grey as MATLAB's `rgb2gray` does.

    A float picture is quantised first and converted to grey second, because that is what happens to a picture
    that is saved as PNG and scored later. All rounding is half to even.

    Args:
        image: shape (h, w), (h, w, 1) or (h, w, 3) (RGB); uint8, or floating point in [0, 1].

    Returns:
        uint8 grey image (h, w). A uint8 input that is grey already is returned without a copy.

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
