"""BT.601 colour: luminance, YCbCr, and two ways to give a fused luminance its colours back.

All functions take floats in [0, 1], with chroma centred at 0.5, and keep the floating dtype of their input. They raise
ValueError where an array of colours does not have three channels on its last axis.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

ColorRange = Literal["full", "studio"]

# The luma weights of BT.601; everything else of the full-range (JPEG) transform follows from these three.
_KR, _KG, _KB = 0.299, 0.587, 0.114


def luminance(rgb: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "..."]:
    """Computes the BT.601 luma, `0.299 R + 0.587 G + 0.114 B`."""
    _check_channels(rgb, "rgb")
    return _KR * rgb[..., 0] + _KG * rgb[..., 1] + _KB * rgb[..., 2]


def rgb_to_ycbcr(rgb: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """Converts RGB to full-range BT.601 YCbCr as JPEG (JFIF) defines it, without clipping."""
    y = luminance(rgb)
    cb = (rgb[..., 2] - y) / (2 * (1 - _KB)) + 0.5
    cr = (rgb[..., 0] - y) / (2 * (1 - _KR)) + 0.5
    return np.stack([y, cb, cr], axis=-1)


def ycbcr_to_rgb(ycc: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """Inverts `rgb_to_ycbcr` up to rounding.

    The result is not clipped: it lies outside [0, 1] where the triple is outside the RGB cube.
    """
    _check_channels(ycc, "ycc")
    y = ycc[..., 0]
    red = y + 2 * (1 - _KR) * (ycc[..., 2] - 0.5)
    blue = y + 2 * (1 - _KB) * (ycc[..., 1] - 0.5)
    # Solving the luma equation for green, instead of rounded coefficients, makes the two functions exact inverses.
    green = (y - _KR * red - _KB * blue) / _KG
    return np.stack([red, green, blue], axis=-1)


def restore_color(
    fused_y: Float[np.ndarray, "..."], vis_rgb: Float[np.ndarray, "... 3"], range: ColorRange = "full"
) -> Float[np.ndarray, "... 3"]:
    """Colours a fused luminance with the chroma of the visible image; the result is RGB, clipped to [0, 1].

    Args:
        fused_y: Fused luminance.
        vis_rgb: The visible image, of the same leading shape.
        range: `full` puts the fused luminance in place of Y. `studio` is what the released test script of RPFNet does:
            it reads the full-range Y, Cb, Cr as if they were studio range, which stretches contrast by 16 % and clips
            both ends. It reproduces the authors' published images.

    Raises:
        ValueError: If the shapes disagree or `range` is unknown.
    """
    _check_channels(vis_rgb, "vis_rgb")
    if vis_rgb.shape[:-1] != fused_y.shape:
        raise ValueError(f"fused_y has shape {fused_y.shape}, vis_rgb {vis_rgb.shape}: leading axes must agree")
    _check_range(range)
    ycc = rgb_to_ycbcr(vis_rgb)
    if range == "full":
        rgb = ycbcr_to_rgb(np.stack([fused_y, ycc[..., 1], ycc[..., 2]], axis=-1))
    else:
        # 128, not 127.5, is the authors' constant: neutral grey gets a tint of up to one level.
        luma, cb, cr = _studio_luma(fused_y), 255 * ycc[..., 1] - 128, 255 * ycc[..., 2] - 128
        rgb = np.stack([luma + 1.596 * cr, luma - 0.392 * cb - 0.813 * cr, luma + 2.017 * cb], axis=-1) / 255
    return np.clip(rgb, 0, 1)


def restore_gray(fused_y: Float[np.ndarray, "..."], range: ColorRange = "full") -> Float[np.ndarray, "..."]:
    """Does for a grey visible image what `restore_color` does for a colour image.

    Args:
        fused_y: Fused luminance.
        range: `full` only clips; `studio` gives `1.164 (255 Y - 16) / 255`, clipped.

    Raises:
        ValueError: If `range` is unknown.
    """
    _check_range(range)
    return np.clip(fused_y if range == "full" else _studio_luma(fused_y) / 255, 0, 1)


def to_uint8(x: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Quantises floats to 8 bits: clips to [0, 1], scales by 255, rounds half to even.

    Raises:
        ValueError: If a value is NaN, which would otherwise become an arbitrary grey level.
    """
    if np.isnan(x).any():
        raise ValueError("to_uint8 got NaN")
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _studio_luma(y: np.ndarray) -> np.ndarray:
    return 1.164 * (255 * y - 16)


def _check_channels(x: np.ndarray, name: str) -> None:
    if x.ndim < 1 or x.shape[-1] != 3:
        raise ValueError(f"{name} must have shape (..., 3), not {x.shape}")


def _check_range(range: str) -> None:
    if range not in ("full", "studio"):
        raise ValueError(f"range must be 'full' or 'studio', not {range!r}")
