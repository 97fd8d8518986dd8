"""Images and data sets on disk: reading, writing, colour, pairs, training patches.

Everything here is NumPy, Pillow and grain; arrays go to the device in `training` and `inference`.
"""

from rpfnet_jax.data.color import luminance, restore_color, to_uint8
from rpfnet_jax.data.images import read_gray, read_image, read_stored, write_image, write_png
from rpfnet_jax.data.pairs import Pair, PairError, check_pairs, find_pairs
from rpfnet_jax.data.pixels import ImageError, StoredImage
from rpfnet_jax.data.thermal import Scalings, ThermalScaling, read_thermal

__all__ = [
    "ImageError",
    "Pair",
    "PairError",
    "Scalings",
    "StoredImage",
    "ThermalScaling",
    "check_pairs",
    "find_pairs",
    "luminance",
    "read_gray",
    "read_image",
    "read_stored",
    "read_thermal",
    "restore_color",
    "to_uint8",
    "write_image",
    "write_png",
]
