"""Images in memory as files store them: pixels, what their values mean, and what else the file says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from rpfnet_jax.data.color import luminance
from rpfnet_jax.data.metadata import Metadata
from rpfnet_jax.files import FileError

GrayImage = UInt8[np.ndarray, "h w"]
ColorImage = UInt8[np.ndarray, "h w 3"]

# Of integers only the unsigned ones of 8 and 16 bits have a value that means white.
_WHITE = {"uint8": 255, "uint16": 65535}
# Rounding in float32 arithmetic exceeds 1 by a few ulp; anything beyond that is another scale.
_OVERSHOOT = 1e-6
_STRIP = 256


# How users ask for a scaling: on the command line, in Python, in a configuration.
SCALINGS = "--ir-scaling, ir_scaling=, data.ir_scaling, likewise for vis; such as percentile:1,99 or range:7000,9500"


class ImageError(FileError):
    """An image that cannot be read."""


@dataclass(frozen=True)
class StoredImage:
    """An image as it is stored, upright.

    Attributes:
        pixels: (h, w), (h, w, 1), or (h, w, 3) in RGB, with the dtype and values of the file (float16 as float32).
        white: The value of white (black is 0): 255, 65535, 4095 of 12 bits, 1 of floating point. None for signed
            integers and those of more than 16 bits, which have no such value.
        alpha: Opacity, (h, w): uint8, uint16 or float32, in the full range of its dtype; None if there is none, or
            its values have no defined white.
        metadata: Colour profile, EXIF and resolution of the file.
        several: Whether the file holds further images (pages, frames).
        path: The file; None for images that come from memory.
    """

    pixels: np.ndarray
    white: int | float | None
    alpha: np.ndarray | None = None
    metadata: Metadata = Metadata()
    several: bool = False
    path: Path | None = None

    @classmethod
    def of(cls, array: Shaped[np.ndarray, "..."], white: int | float | None = None, **more) -> StoredImage:
        """Splits an array of 1 to 4 channels into pixels and alpha, the last of 2 or 4 channels.

        Args:
            array: (h, w), or (h, w, c): grey, grey and alpha, RGB, or RGB and alpha.
            white: The value of white; None: that of the dtype, if it has one.
            more: Further attributes.

        Raises:
            ValueError: If the array has another shape, or is boolean or complex.
        """
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
            raise ValueError(f"an image must be (H, W), or (H, W, C) with 1 to 4 channels, got shape {array.shape}")
        if array.dtype.kind not in "uif":
            raise ValueError(f"an image must be uint8, uint16 or floating point in [0, 1], got {array.dtype}")
        if array.dtype == np.float16:
            array = array.astype(np.float32)
        if white is None:
            white = 1 if array.dtype.kind == "f" else _WHITE.get(array.dtype.name)
        image = cls(array, white, **more)
        if array.ndim == 2 or array.shape[2] in (1, 3):
            return image
        alpha = None
        if white is not None:
            last = array[..., -1]
            alpha = cls(last if last.dtype.kind == "u" else np.clip(last, 0, 1), white).full_range()
        colors = array[..., 0] if array.shape[2] == 2 else array[..., :3]
        return cls(colors, white, alpha, **more)

    @property
    def depth(self) -> str:
        """The kind of its values, for messages: `8-bit`, `12-bit`, `32-bit signed`, `64-bit float`."""
        kind, bits = self.pixels.dtype.kind, 8 * self.pixels.dtype.itemsize
        if kind == "u":
            return f"{int(self.white).bit_length() if self.white else bits}-bit"
        return f"{bits}-bit {'float' if kind == 'f' else 'signed'}"

    def error(self, reason: str) -> ValueError:
        """Makes an error that names the file, if there is one."""
        return ValueError(reason) if self.path is None else ImageError(self.path, reason)

    def check_range(self) -> int | float:
        """Returns the value of white; raises as `full_range` does."""
        if self.white is None:
            raise self.error(
                f"an image must be uint8, uint16 or floating point in [0, 1]; {self.depth} values have no defined "
                f"white and need a scaling ({SCALINGS})"
            )
        pixels = self.pixels
        # NaN fails this comparison, too.
        floating = pixels.dtype.kind == "f" and pixels.size > 0
        if floating and not (pixels.min() >= -_OVERSHOOT and pixels.max() <= 1 + _OVERSHOOT):
            raise self.error(
                f"a floating point image must lie in [0, 1], got [{pixels.min():.7g}, {pixels.max():.7g}]; other "
                f"values need a scaling ({SCALINGS})"
            )
        return self.white

    def full_range(self) -> np.ndarray:
        """Returns the pixels as uint8, uint16 or float32, with white at 255, 65535 and 1; not copied where they are.

        Raises:
            ValueError: If white is undefined, or values lie outside of what their type allows; an `ImageError` that
                names the file, if there is one.
        """
        white, pixels = self.check_range(), self.pixels
        if pixels.dtype.kind == "f":
            return np.clip(pixels, 0, 1).astype(np.float32)
        if white == _WHITE.get(pixels.dtype.name):
            return pixels
        return np.rint(np.minimum(pixels, white) * (65535 / white)).astype(np.uint16)

    def eight_bit(self) -> GrayImage | ColorImage:
        """Returns the pixels as uint8, linearly scaled and rounded half to even; raises as `full_range`."""
        if self.pixels.dtype == np.uint8:
            return self.pixels
        values = self.pixels.astype(np.float64) * (255 / self.check_range())
        return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def to_gray(image: Shaped[np.ndarray, "h w"] | Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w"]:
    """Reduces an RGB image to its BT.601 luma with its own dtype, integers rounded half to even.

    A grey image is returned as it is, not copied; integer grey stored in three channels keeps its values.
    """
    if image.ndim == 2:
        return image
    if image.shape[2] == 1:
        return image[..., 0]
    gray = np.empty(image.shape[:2], image.dtype)
    wide = np.int32 if image.dtype.itemsize <= 2 else np.int64
    for top in range(0, len(image), _STRIP):  # In strips, to save memory.
        strip = image[top : top + _STRIP]
        if image.dtype.kind == "f":
            gray[top : top + _STRIP] = luminance(strip)
        else:
            # Integer weights make the sum exact, so that the rounding is the same on every machine.
            thousandfold = strip.astype(wide) @ np.array([299, 587, 114], dtype=wide)
            gray[top : top + _STRIP] = np.rint(thousandfold / 1000.0)
    return gray


def upright(array: Shaped[np.ndarray, "h w *c"], orientation: int) -> Shaped[np.ndarray, "..."]:
    """Turns stored rows and columns as an EXIF or TIFF orientation (1 to 8) says; other numbers count as 1."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
