"""Data on disk and in memory: pairs, pictures, clips, registration, colour, the crop plan, the synthetic scenes.

Everything here is NumPy, SciPy, Pillow and grain, with OpenCV to estimate homographies and PyAV for video files,
both optional; arrays go to the device in `training` and `inference`.
"""

from rpfnet_jax.data.color import (
    ColorRange,
    luminance,
    restore_color,
    restore_gray,
    rgb_to_ycbcr,
    to_uint8,
    ycbcr_to_rgb,
)
from rpfnet_jax.data.images import ImageError, read_gray, read_image, write_png
from rpfnet_jax.data.pairs import Pair, PairError, check_pairs, find_pairs, fingerprint
from rpfnet_jax.data.patches import PAPER_PATCH_COUNT, PAPER_PATCH_SIZE, apply_transform, crop_plan, extract
from rpfnet_jax.data.thermal import ThermalScaling, read_thermal, scale_thermal

__all__ = [
    "PAPER_PATCH_COUNT",
    "PAPER_PATCH_SIZE",
    "ColorRange",
    "ImageError",
    "Pair",
    "PairError",
    "ThermalScaling",
    "apply_transform",
    "check_pairs",
    "crop_plan",
    "extract",
    "find_pairs",
    "fingerprint",
    "luminance",
    "read_gray",
    "read_image",
    "read_thermal",
    "restore_color",
    "restore_gray",
    "rgb_to_ycbcr",
    "scale_thermal",
    "to_uint8",
    "write_png",
    "ycbcr_to_rgb",
]
