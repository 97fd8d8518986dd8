"""Data on disk and in memory: pairs, pictures, clips, registration, colour, the crop plan, the synthetic scenes.

Everything here is NumPy, SciPy, Pillow and grain, with OpenCV to estimate homographies and PyAV for video files,
both optional; arrays go to the device in `training` and `inference`.
"""

from rpfnet_jax.data.alignment import (
    AlignmentError,
    checkerboard,
    estimate_homography,
    read_homography,
    resize_to,
    same_field_of_view,
    warp_to_visible,
    write_homography,
)
from rpfnet_jax.data.checks import check_pairs
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
from rpfnet_jax.data.pairs import Pair, PairError, find_pairs, fingerprint
from rpfnet_jax.data.patches import (
    PAPER_PATCH_COUNT,
    PAPER_PATCH_SIZE,
    apply_transform,
    crop_plan,
    extract,
)
from rpfnet_jax.data.synthetic import KINDS, Scene, make_scene, write_scenes
from rpfnet_jax.data.thermal import ThermalScaling, read_thermal, scale_thermal
from rpfnet_jax.data.video import Clip, ClipError, ClipWriter, open_clip, paired_frames

__all__ = [
    "KINDS",
    "PAPER_PATCH_COUNT",
    "PAPER_PATCH_SIZE",
    "AlignmentError",
    "Clip",
    "ClipError",
    "ClipWriter",
    "ColorRange",
    "ImageError",
    "Pair",
    "PairError",
    "Scene",
    "ThermalScaling",
    "apply_transform",
    "check_pairs",
    "checkerboard",
    "crop_plan",
    "estimate_homography",
    "extract",
    "find_pairs",
    "fingerprint",
    "luminance",
    "make_scene",
    "open_clip",
    "paired_frames",
    "read_gray",
    "read_homography",
    "read_image",
    "read_thermal",
    "resize_to",
    "restore_color",
    "restore_gray",
    "rgb_to_ycbcr",
    "same_field_of_view",
    "scale_thermal",
    "to_uint8",
    "warp_to_visible",
    "write_homography",
    "write_png",
    "write_scenes",
    "ycbcr_to_rgb",
]
