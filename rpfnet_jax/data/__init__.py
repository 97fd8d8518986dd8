"""Images and data sets on disk: reading, writing, colour, pairs, training patches.

Everything here is NumPy, Pillow and grain; arrays go to the device in `training` and `inference`.
"""

from rpfnet_jax.data.color import luminance, restore_color, to_uint8
from rpfnet_jax.data.images import ImageError, read_gray, read_image, write_png
from rpfnet_jax.data.pairs import Pair, PairError, check_pairs, find_pairs
from rpfnet_jax.data.thermal import ThermalScaling, read_thermal

__all__ = [
    "ImageError",
    "Pair",
    "PairError",
    "ThermalScaling",
    "check_pairs",
    "find_pairs",
    "luminance",
    "read_gray",
    "read_image",
    "read_thermal",
    "restore_color",
    "to_uint8",
    "write_png",
]
