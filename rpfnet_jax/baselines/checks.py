"""What every baseline verifies before it computes."""

import numpy as np
from jaxtyping import Float32

MIN_SIZE = 16
"""The smallest height and width, in pixels: one step of the pyramid on top of a base 8 pixels high or wide."""


def check_sources(ir: Float32[np.ndarray, "..."], vis_y: Float32[np.ndarray, "..."]) -> None:
    """Refuses anything but two grey float pictures of one size in [0, 1].

    NumPy would broadcast some mismatched shapes without a word, and on a 0-255 scale the constants of the
    guided filter mean something else.

    Args:
        ir: what should be float32 (h, w) in [0, 1].
        vis_y: the same.

    Raises:
        ValueError: not 2-D, shapes differ, a side shorter than `MIN_SIZE`, or a value outside [0, 1] or NaN.
    """
    if ir.shape != vis_y.shape or ir.ndim != 2:
        raise ValueError(f"need two pictures of one shape (h, w), got ir {ir.shape} and vis_y {vis_y.shape}")
    if min(ir.shape) < MIN_SIZE:
        raise ValueError(f"pictures must be at least {MIN_SIZE} pixels high and wide, got {ir.shape}")
    for name, picture in (("ir", ir), ("vis_y", vis_y)):
        low, high = picture.min(), picture.max()
        # Written so that NaN, which compares as false, is refused too.
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name} must lie in [0, 1], got {low:g} to {high:g}")
