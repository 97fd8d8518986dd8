"""Two figures for night pictures, where metrics of contrast also reward a grey fog and amplified noise.

Both are this project's own. Good fusion keeps the dark lift under 0.12 and the target keep above 0.9.
"""

import numpy as np
from jaxtyping import UInt8

from rpfnet_jax.metrics.checks import check_gray8

DARK_IR = 0.1
DARK_VIS = 0.05
HOT_QUANTILE = 0.99


def dark_lift(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
) -> float:
    """Mean fused brightness where both sources are dark: IR < 0.1 and VIS < 0.05. Lower is better.

    Args:
        fused: uint8 (h, w).
        ir: uint8 (h, w).
        vis: uint8 (h, w).

    Returns:
        Brightness in [0, 1]; NaN if no pixel is dark in both sources.

    Raises:
        ValueError: not uint8 grey images of one size.
    """
    check_gray8(fused, ir, vis)
    dark = (ir / 255.0 < DARK_IR) & (vis / 255.0 < DARK_VIS)
    return float(fused[dark].mean() / 255.0) if dark.any() else float("nan")


def target_keep(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
) -> float:
    """Brightness of the hottest 1 % of the infrared picture in the fused one, relative to max(IR, VIS) there.

    The hottest pixels are those at or above the 99 % quantile of IR; where many pixels share that level
    (saturated targets) all of them count.

    Args:
        fused: uint8 (h, w).
        ir: uint8 (h, w).
        vis: uint8 (h, w).

    Returns:
        A ratio ≥ 0; 1 means as bright as the brighter source. NaN if both sources are black there.

    Raises:
        ValueError: not uint8 grey images of one size.
    """
    check_gray8(fused, ir, vis)
    hot = ir >= np.quantile(ir, HOT_QUANTILE)
    brightest = np.maximum(ir, vis)[hot].mean()
    return float(fused[hot].mean() / brightest) if brightest > 0 else float("nan")
