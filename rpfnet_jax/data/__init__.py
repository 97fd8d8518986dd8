"""Data on disk and in memory: pairs, pictures, colour, the crop plan and the embedded synthetic scenes.

Everything here is NumPy, SciPy, Pillow and grain; arrays go to the device in `training` and `inference`.
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
from rpfnet_jax.data.patches import (
    PAPER_PATCH_COUNT,
    PAPER_PATCH_SIZE,
    apply_transform,
    crop_plan,
    extract,
)
from rpfnet_jax.data.synthetic import KINDS, Scene, make_scene, write_scenes

__all__ = [
    "KINDS",
    "PAPER_PATCH_COUNT",
    "PAPER_PATCH_SIZE",
    "ColorRange",
    "ImageError",
    "Pair",
    "PairError",
    "Scene",
    "apply_transform",
    "check_pairs",
    "crop_plan",
    "extract",
    "find_pairs",
    "fingerprint",
    "luminance",
    "make_scene",
    "read_gray",
    "read_image",
    "restore_color",
    "restore_gray",
    "rgb_to_ycbcr",
    "to_uint8",
    "write_png",
    "write_scenes",
    "ycbcr_to_rgb",
]
