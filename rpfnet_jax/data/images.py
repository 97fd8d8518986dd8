"""Reading and writing single images.

Every function here that reads raises `ImageError` if the file is missing, empty, truncated, not an image, of a kind
that is not supported, or larger than `MAX_PIXELS`.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image, UnidentifiedImageError

from rpfnet_jax.data.checks import warn_of_input
from rpfnet_jax.data.metadata import Metadata, read_metadata
from rpfnet_jax.data.pixels import ColorImage, GrayImage, ImageError, StoredImage, to_gray, upright
from rpfnet_jax.data.tiff import SIGNATURES, TiffError, encode_tiff, read_tiff, tiff_size
from rpfnet_jax.files import one_line, write_atomically

# Far above any infrared camera and below Pillow's own warning level, so that a decompression bomb is rejected by its
# header, before its pixels take memory.
MAX_PIXELS = 64 * 1024 * 1024

# Pillow judges by content; without this list it would hand a PostScript file called x.png to an interpreter. TIFF is
# not in it: Pillow misreads some kinds, see `data.tiff`.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "WEBP")

_EXIF_ORIENTATION = 0x0112


def read_stored(path: str | Path) -> StoredImage:
    """Reads an image (BMP, GIF, JPEG, JPEG 2000, PNG, PNM, TIFF or WebP) with all its bits, upright.

    Palette, CMYK and YCbCr images become RGB; fewer than 8 bits are scaled to 8 (1-bit images become grey 0 or 255).
    Of a file with several images the first is read.
    """
    path = Path(path)
    with _reading(path) as file:
        if file.read(4) in SIGNATURES:
            file.seek(0)
            return replace(read_tiff(file, MAX_PIXELS), path=path)
        file.seek(0)
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(path, f"too large: {image.height}\u00d7{image.width} pixels (limit {MAX_PIXELS})")
            return replace(from_pillow(image), path=path)


def read_image(path: str | Path) -> GrayImage | ColorImage:
    """Reads an image of any kind as 8-bit grey or RGB, without alpha; see `read_stored`.

    16-bit images are scaled linearly by 1/257 (65535 becomes 255) and floating-point images, which must lie in [0, 1],
    by 255, rounded half to even, without contrast stretching: `InputWarning` tells where little is left; see
    `data.thermal.read_levels`.

    Raises:
        ImageError: Also for images without a defined white: signed integers, or integers of more than 16 bits.
    """
    image = read_stored(path)
    warn_of_input(image, side=None)
    return image.eight_bit()


def read_gray(path: str | Path) -> GrayImage:
    """Reads an image as 8-bit grey; see `read_image` and `to_gray`."""
    return to_gray(read_image(path))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file; whatever is raised while its content is read becomes an `ImageError`."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise ImageError(path, "the file is empty (0 bytes)")
            yield file
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError(path, "not an image in a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, f"too large: {one_line(error)}") from error
    except (TiffError, OSError) as error:
        raise ImageError(path, one_line(error)) from error
    except Exception as error:
        # Decoders raise anything for a damaged file: struct.error, IndexError, zlib.error, ...
        raise ImageError(path, f"cannot be decoded: {one_line(error)}") from error


def from_pillow(image: Image.Image) -> StoredImage:
    """Converts an image of Pillow's, of which only the header may have been read.

    Raises:
        Exception: Anything, if the file behind it is damaged.
    """
    opened: Any = image
    if image.format == "TIFF" and getattr(image, "tile", None):
        # Not decoded yet: read as a file.
        return _at_start(opened.fp, lambda file: read_tiff(file, MAX_PIXELS))
    several = image.format in ("GIF", "PNG", "WEBP") and bool(getattr(image, "is_animated", False))
    tiles = getattr(image, "tile", None)
    # The stored form of pixels that have not been decoded yet.
    stored = tiles[0].args if tiles else ""
    white: int | float | None = None
    if image.format == "JPEG2000" and tiles:
        pixels, white = _jpeg2000(image)
    elif isinstance(stored, str) and stored.endswith(";16B") and image.mode in ("RGB", "RGBA"):
        pixels = _deep_png(image, stored)
    elif image.format == "PPM" and (white := _pnm_white(stored)) is not None:
        pixels = _deep_pnm(image, white)
    else:
        pixels = _pixels(image)
    # Only now, because the EXIF data of a PNG may follow its pixels.
    try:
        exif = image.getexif()
    except Exception:
        # Damaged; the pixels are not.
        exif = Image.Exif()
    pixels = upright(pixels, exif.get(_EXIF_ORIENTATION, 1))
    return StoredImage.of(pixels, white, metadata=read_metadata(exif, image.info), several=several)


def _pixels(image: Image.Image) -> Shaped[np.ndarray, "h w *c"]:
    image.load()
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if mode in ("I", "F"):
        return np.array(image)
    if mode in ("P", "PA"):
        transparent = mode == "PA" or "transparency" in image.info
        # Pillow warns when a palette with transparency is converted to RGB directly.
        pixels = np.array(image.convert("RGBA"))
        return pixels if transparent else pixels[..., :3].copy()
    if mode in ("LA", "La"):
        return np.array(image.convert("LA"))
    if mode in ("RGBA", "RGBa"):
        return np.array(image.convert("RGBA"))
    gray = mode in ("1", "L")
    if "transparency" in image.info and (gray or mode == "RGB"):
        return np.array(image.convert("LA" if gray else "RGBA"))
    return np.array(image.convert("L" if gray else "RGB"))


def _deep_png(image: Any, stored: str) -> Shaped[np.ndarray, "h w c"]:
    """Decodes a PNG of several channels of 16 bits; Pillow's modes only have room for the higher 8.

    The lower ones come from decoding the file again, as if the lower byte of each sample were the higher one. Grey and
    alpha of 16 bits are decoded as four channels of 8.
    """
    data = _at_start(image.fp, lambda file: file.read())
    high = np.array(image)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
        raw = "RGBA" if stored == "LA;16B" else stored.replace("16B", "16L")
        again.tile = [again.tile[0]._replace(args=raw)]  # type: ignore[attr-defined]
        other = np.array(again)
    if stored == "LA;16B":
        high, other = other[..., ::2], other[..., 1::2]
    return high.astype(np.uint16) << 8 | other


def _jpeg2000(image: Any) -> tuple[Shaped[np.ndarray, "h w *c"], int]:
    """Decodes JPEG 2000; grey of 9 to 15 bits, which Pillow scales to 16, gets its own values back."""
    header = _at_start(image.fp, lambda file: file.read(1 << 16))
    # The codestream begins with two markers and sizes; the bits of the first channel follow.
    start, gray = header.find(b"\xff\x4f\xff\x51"), image.mode.startswith("I;16")
    bits = (header[start + 42] & 0x7F) + 1 if start >= 0 else 16 if gray else 8
    if bits > 8 and not gray:
        raise OSError(f"JPEG 2000 of {bits} bits in several channels is not supported; save it as TIFF or PNG")
    pixels = _pixels(image)
    return (pixels >> (16 - bits), (1 << bits) - 1) if 8 < bits < 16 else (pixels, 255 if bits <= 8 else 65535)


def _at_start(file: Any, read: Callable[[Any], Any]) -> Any:
    """Reads from the start of a file, and returns to where it was."""
    position = file.tell()
    file.seek(0)
    found = read(file)
    file.seek(position)
    return found


def _pnm_white(stored: Any) -> int | None:
    """Returns the maximum that the header of a PGM or PPM states, if it is above 255."""
    white = {"I;16B": 65535}.get(stored, 0) if isinstance(stored, str) else stored[1]
    return white if white > 255 else None


def _deep_pnm(image: Any, white: int) -> Shaped[np.ndarray, "h w *c"]:
    """Reads a PGM or PPM of more than 8 bits with the values that it has; Pillow scales them."""
    tile = image.tile[0]
    image.fp.seek(tile.offset)
    data = image.fp.read()
    shape = (image.height, image.width, *((3,) if image.mode == "RGB" else ()))
    count = int(np.prod(shape))
    if tile.codec_name == "ppm_plain":
        values = np.array(re.sub(rb"#[^\n\r]*", b"", data).split()[:count], dtype=np.int64)
    else:
        values = np.frombuffer(data, ">u2", min(count, len(data) // 2))
    if values.size < count:
        raise OSError("image file is truncated")
    if values.min() < 0 or values.max() > white:
        raise OSError(f"damaged: values beyond the maximum of {white} that its header states")
    return values.astype(np.uint16).reshape(shape)


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Reads (height, width) from an image's header, with EXIF orientation applied; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            if file.read(4) in SIGNATURES:
                file.seek(0)
                return tiff_size(file)
            file.seek(0)
            with Image.open(file, formats=_FORMATS) as image:
                turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
                return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:
        # The error is reported where the image itself is read.
        return None


# The file format that stores each dtype.
SUFFIXES = {"uint8": ".png", "uint16": ".tif", "float32": ".tif"}


def write_png(path: str | Path, image: Shaped[np.ndarray, "..."], metadata: Metadata = Metadata()) -> None:
    """Writes a PNG atomically: readers see the old file or the finished new one, never a part.

    Args:
        path: Target, ending in `.png`. Missing parent folders are created.
        image: uint8: (h, w) grey, (h, w, 2) grey and alpha, (h, w, 3) RGB, or (h, w, 4) RGB and alpha.
        metadata: Goes into the file.

    Raises:
        ValueError: If the array is not such an image, or the name does not end in `.png`.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: the name must end in .png")
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (2, 3, 4))):
        raise ValueError(
            f"{path}: need uint8 (h, w), (h, w, 2), (h, w, 3) or (h, w, 4), got {image.dtype} {image.shape}"
        )
    if image.size == 0:
        raise ValueError(f"{path}: the image is empty, shape {image.shape}")
    channels = image.shape[2] if image.ndim == 3 else 1
    options: dict[str, Any] = {"icc_profile": metadata.profile(channels), "exif": metadata.exif, "dpi": metadata.dpi}
    encoded = io.BytesIO()
    # Pillow's default level takes four times as long for files a fifth smaller.
    Image.fromarray(np.ascontiguousarray(image)).save(
        encoded, format="PNG", compress_level=1, **{name: value for name, value in options.items() if value}
    )
    write_atomically(path, encoded.getvalue())


def write_image(path: Path, image: np.ndarray, metadata: Metadata = Metadata()) -> None:
    """Writes an image atomically: uint8 as PNG, uint16 and float32 (in [0, 1]) as TIFF.

    Args:
        path: Target, with the suffix that `SUFFIXES` has for the image's dtype.
        image: (H, W), or (H, W, C) with 1 to 4 channels: grey, grey and alpha, RGB, or RGB and alpha.
        metadata: Goes into the file.

    Raises:
        ValueError: If the dtype or the suffix is another one.
        OSError: If the file cannot be written; the message names it.
    """
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if SUFFIXES.get(image.dtype.name) != path.suffix:
        raise ValueError(f"{path}: {image.dtype} is written as {SUFFIXES.get(image.dtype.name, 'nothing')}")
    try:
        if image.dtype == np.uint8:
            write_png(path, image, metadata)
        else:
            write_atomically(path, encode_tiff(image, metadata))
    except OSError as error:
        # The error itself would name the temporary file.
        raise OSError(f"{path}: can't be written: {one_line(error)}") from error
