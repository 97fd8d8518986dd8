"""Reading and writing single images.

Every function here that reads raises `ImageError` if the file is missing, empty, truncated, not an image, or larger
than `MAX_PIXELS`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from rpfnet_jax.files import FileError, one_line, write_atomically

# Far above any infrared camera and below Pillow's own warning level, so that a decompression bomb is rejected by its
# header, before its pixels take memory.
MAX_PIXELS = 64 * 1024 * 1024

# Pillow judges by content; without this list it would hand a PostScript file called x.png to an interpreter.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

_EXIF_ORIENTATION = 0x0112

GrayImage = UInt8[np.ndarray, "h w"]
ColorImage = UInt8[np.ndarray, "h w 3"]


class ImageError(FileError):
    """An image that cannot be read."""


def read_image(path: str | Path) -> GrayImage | ColorImage:
    """Reads an image (BMP, GIF, JPEG, JPEG 2000, PNG, PNM, TIFF or WebP) of any mode as 8-bit grey or RGB.

    EXIF orientation is applied. Palette, CMYK and YCbCr images become RGB; an alpha channel is dropped; 1-bit images
    become grey 0 or 255. 16-bit grey is scaled linearly by 1/257 (65535 becomes 255), rounded half to even, without
    contrast stretching. Of a file with several frames the first is read.

    Raises:
        ImageError: Also for modes without a defined 8-bit reading (32-bit float, 32-bit integers beyond 16 bits).
    """
    return decode(path, eight_bit)


def read_gray(path: str | Path) -> GrayImage:
    """Reads an image as 8-bit grey; see `read_image` and `to_gray`."""
    return to_gray(read_image(path))


def to_gray(image: GrayImage | ColorImage) -> GrayImage:
    """Reduces an RGB image to its BT.601 luma, rounded half to even; returns a grey image as it is, not copied.

    A grey image stored in three channels keeps its values.
    """
    if image.ndim == 2:
        return image
    # Integer weights make the sum exact, so that the rounding is the same on every machine.
    thousandfold = image.astype(np.int32) @ np.array([299, 587, 114], dtype=np.int32)
    return np.rint(thousandfold / 1000.0).astype(np.uint8)


def decode(path: str | Path, convert: Callable[[Image.Image, Path], np.ndarray]) -> np.ndarray:
    """Opens an image and converts it to an array.

    Args:
        path: The file.
        convert: Called with the opened image, of which only the header has been read, and the path; may raise
            `ImageError` itself. Any other exception becomes an `ImageError`.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise ImageError(path, "the file is empty (0 bytes)")
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(path, f"too large: {image.height}\u00d7{image.width} pixels (limit {MAX_PIXELS})")
            return convert(image, path)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(path, "not an image in a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, f"too large: {one_line(error)}") from error
    except OSError as error:
        raise ImageError(path, one_line(error)) from error
    except Exception as error:
        # Decoders raise anything for a damaged file: struct.error, IndexError, zlib.error, ...
        raise ImageError(path, f"cannot be decoded: {one_line(error)}") from error


def eight_bit(image: Image.Image, path: Path) -> GrayImage | ColorImage:
    """Converts an opened image to 8-bit grey or RGB as `read_image` describes; `path` is for the message."""
    image = upright(image)
    mode = image.mode
    if mode in ("L", "RGB"):
        return np.array(image)
    if mode in ("1", "LA"):
        return np.array(image.convert("L"))
    if mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        # Older Pillow opens 16-bit PNG as 32-bit "I"; the range tells such files from true 32-bit ones.
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(path, "32-bit integers beyond the 16-bit range; convert it to 8 or 16 bits")
        return np.rint(values / 257.0).astype(np.uint8)
    if mode == "F":
        raise ImageError(path, "32-bit float has no defined range; convert it to 8 or 16 bits")
    if mode in ("P", "PA"):
        # Pillow warns when a palette with transparency is converted to RGB directly.
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def upright(image: Image.Image) -> Image.Image:
    """Decodes the pixels of an opened image and applies its EXIF orientation."""
    # Pixels are loaded first, because the EXIF data of a PNG may follow them.
    image.load()
    return ImageOps.exif_transpose(image)


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Reads (height, width) from an image's header, with EXIF orientation applied; None if it cannot be read."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:
        # The error is reported where the image itself is read.
        return None


def write_png(path: str | Path, image: GrayImage | ColorImage) -> None:
    """Writes a PNG atomically: readers see the old file or the finished new one, never a part.

    Args:
        path: Target, ending in `.png`. Missing parent folders are created.
        image: Grey or RGB.

    Raises:
        ValueError: If the array is not an 8-bit grey or RGB image, or the name does not end in `.png`.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: the name must end in .png")
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"{path}: need uint8 (h, w) or (h, w, 3), got {image.dtype} {image.shape}")
    if image.size == 0:
        raise ValueError(f"{path}: the image is empty, shape {image.shape}")
    encoded = io.BytesIO()
    # Pillow's default level takes four times as long for files a fifth smaller.
    Image.fromarray(np.ascontiguousarray(image)).save(encoded, format="PNG", compress_level=1)
    write_atomically(path, encoded.getvalue())


# The file format that stores each dtype, grey and colour.
SUFFIXES = {"uint8": ".png", "uint16": ".tif", "float32": ".tif"}


def check_writable(dtype: str) -> None:
    """Raises ModuleNotFoundError, with the command that installs it, if a library to write this dtype is missing."""
    if SUFFIXES[dtype] == ".tif":
        _tifffile()


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes an image atomically: uint8 as PNG, uint16 and float32 (in [0, 1]) as TIFF.

    Args:
        path: Target, with the suffix that `SUFFIXES` has for the image's dtype.
        image: (H, W), (H, W, 1) or (H, W, 3), RGB.

    Raises:
        ValueError: If the dtype or the suffix is another one.
        ModuleNotFoundError: If a library is missing; see `check_writable`.
        OSError: If the file cannot be written; the message names it.
    """
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if SUFFIXES.get(image.dtype.name) != path.suffix:
        raise ValueError(f"{path}: {image.dtype} is written as {SUFFIXES.get(image.dtype.name, 'nothing')}")
    try:
        if image.dtype == np.uint8:
            write_png(path, image)
        else:
            encoded = io.BytesIO()
            color = "rgb" if image.ndim == 3 else "minisblack"
            _tifffile().imwrite(encoded, np.ascontiguousarray(image), photometric=color, compression=None)
            write_atomically(path, encoded.getvalue())
    except OSError as error:
        # The error itself would name the temporary file.
        raise OSError(f"{path}: can't be written: {one_line(error)}") from error


def _tifffile() -> ModuleType:
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('TIFF needs tifffile: pip install "rpfnet-jax[tiff]"') from error
    return tifffile
