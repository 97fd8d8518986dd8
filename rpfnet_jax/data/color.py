"""BT.601 colour: luminance, YCbCr and the two ways to give a fused luminance its colours back.

All functions take floats in [0, 1]; chroma is centred at 0.5. They keep the floating dtype of their input.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

ColorRange = Literal["full", "studio"]

# BT.601 luma weights; everything else of the full-range (JPEG) transform follows from these three.
_KR, _KG, _KB = 0.299, 0.587, 0.114


def luminance(rgb: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "..."]:
    """BT.601 luma, ``0.299 R + 0.587 G + 0.114 B``.

    Args:
        rgb: Floats of shape (..., 3), in [0, 1].

    Returns:
        Floats of shape (...), in [0, 1].

    Raises:
        ValueError: If the last axis does not hold three channels.
    """
    _need_three(rgb, "rgb")
    return _KR * rgb[..., 0] + _KG * rgb[..., 1] + _KB * rgb[..., 2]


def rgb_to_ycbcr(rgb: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """RGB to full-range BT.601 YCbCr as JPEG (JFIF) defines it, without clipping.

    Args:
        rgb: Floats of shape (..., 3), in [0, 1].

    Returns:
        Floats of shape (..., 3): Y in [0, 1], Cb and Cr in [0, 1] with 0.5 for grey.

    Raises:
        ValueError: If the last axis does not hold three channels.
    """
    y = luminance(rgb)
    cb = (rgb[..., 2] - y) / (2 * (1 - _KB)) + 0.5
    cr = (rgb[..., 0] - y) / (2 * (1 - _KR)) + 0.5
    return np.stack([y, cb, cr], axis=-1)


def ycbcr_to_rgb(ycc: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """Inverse of :func:`rgb_to_ycbcr` up to rounding; the caller clips.

    Args:
        ycc: Floats of shape (..., 3), Y, Cb, Cr with chroma centred at 0.5.

    Returns:
        RGB floats of shape (..., 3); outside [0, 1] where the triple is no colour of the RGB cube.

    Raises:
        ValueError: If the last axis does not hold three channels.
    """
    _need_three(ycc, "ycc")
    y = ycc[..., 0]
    red = y + 2 * (1 - _KR) * (ycc[..., 2] - 0.5)
    blue = y + 2 * (1 - _KB) * (ycc[..., 1] - 0.5)
    # Solving the luma equation for green, instead of rounded coefficients, makes the pair exact inverses.
    green = (y - _KR * red - _KB * blue) / _KG
    return np.stack([red, green, blue], axis=-1)


def restore_color(
    fused_y: Float[np.ndarray, "..."],
    vis_rgb: Float[np.ndarray, "... 3"],
    range: ColorRange = "full",
) -> Float[np.ndarray, "... 3"]:
    """Colours a fused luminance with the chroma of the visible picture.

    Args:
        fused_y: Fused luminance, floats of shape (...), in [0, 1].
        vis_rgb: The visible picture, floats of shape (..., 3), in [0, 1], of the same leading shape.
        range: ``"full"`` puts the fused luminance in place of Y. ``"studio"`` is what the released test
            script of RPFNet does: it reads the full-range Y, Cb, Cr as if they were studio range, which
            stretches contrast by 16 % and clips both ends. Needed to reproduce the authors' published
            pictures.

    Returns:
        RGB floats of shape (..., 3), clipped to [0, 1].

    Raises:
        ValueError: If the shapes disagree or ``range`` is unknown.
    """
    _need_three(vis_rgb, "vis_rgb")
    if vis_rgb.shape[:-1] != fused_y.shape:
        raise ValueError(f"fused_y has shape {fused_y.shape}, vis_rgb {vis_rgb.shape}: leading axes must agree")
    ycc = rgb_to_ycbcr(vis_rgb)
    if range == "full":
        rgb = ycbcr_to_rgb(np.stack([fused_y, ycc[..., 1], ycc[..., 2]], axis=-1))
    elif range == "studio":
        # 128, not 127.5, is the authors' constant: neutral grey comes out with a tint of up to one level.
        luma, cb, cr = _studio_luma(fused_y), 255 * ycc[..., 1] - 128, 255 * ycc[..., 2] - 128
        rgb = np.stack([luma + 1.596 * cr, luma - 0.392 * cb - 0.813 * cr, luma + 2.017 * cb], axis=-1) / 255
    else:
        raise ValueError(f"range must be 'full' or 'studio', not {range!r}")
    return np.clip(rgb, 0, 1)


def restore_gray(fused_y: Float[np.ndarray, "..."], range: ColorRange = "full") -> Float[np.ndarray, "..."]:
    """The grey counterpart of :func:`restore_color`, for visible pictures without colour.

    Args:
        fused_y: Fused luminance, floats of shape (...), in [0, 1].
        range: ``"full"`` only clips; ``"studio"`` gives ``1.164 (255 Y - 16) / 255``, clipped.

    Returns:
        Floats of shape (...), in [0, 1].

    Raises:
        ValueError: If ``range`` is unknown.
    """
    if range == "full":
        return np.clip(fused_y, 0, 1)
    if range == "studio":
        return np.clip(_studio_luma(fused_y) / 255, 0, 1)
    raise ValueError(f"range must be 'full' or 'studio', not {range!r}")


def to_uint8(x: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Quantises floats in [0, 1] to 8 bits: clip, scale by 255, round half to even.

    Args:
        x: Floats of any shape.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: If a value is NaN, which would otherwise become an arbitrary grey level.
    """
    if np.isnan(x).any():
        raise ValueError("to_uint8 got NaN")
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _studio_luma(y: np.ndarray) -> np.ndarray:
    return 1.164 * (255 * y - 16)


def _need_three(x: np.ndarray, name: str) -> None:
    if x.ndim < 1 or x.shape[-1] != 3:
        raise ValueError(f"{name} must have shape (..., 3), not {x.shape}")
