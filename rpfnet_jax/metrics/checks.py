"""What every metric verifies before it computes: 8-bit grey images of one size, and a known protocol."""

from typing import Literal

import numpy as np
from jaxtyping import Shaped

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
