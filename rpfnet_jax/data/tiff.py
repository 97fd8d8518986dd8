"""TIFF files: reading pixels as their tags say, and writing.

Pillow misreads some kinds of TIFF in silence, and tifffile needs imagecodecs (79 MB) for LZW, packed bits and the
floating-point predictor. Here Pillow's classes parse and format the directory of tags and its libtiff decompresses;
everything that the tags say about the decompressed bytes is applied by this module.
"""

from __future__ import annotations

import io
import sys
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from rpfnet_jax.data.metadata import Metadata, read_metadata
from rpfnet_jax.data.pixels import StoredImage, upright

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Numbers of tags.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _DESCRIPTION, _OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS = 266, 270, 273, 274, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _PLANES, _RESOLUTION_UNIT, _PREDICTOR, _COLORMAP = 282, 283, 284, 296, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _INK_SET, _EXTRA, _FORMAT = 322, 323, 324, 325, 332, 338, 339
_SUBSAMPLING, _PROFILE = 530, 34675

_LONG, _UNDEFINED = 4, 7
_ASSOCIATED, _UNASSOCIATED = 1, 2

_COMPRESSIONS = {5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard"}
# These compress images, not bytes; of up to 8 bits Pillow reads them as a whole.
_IMAGE_COMPRESSIONS = {2: "CCITT RLE", 3: "CCITT Group 3", 4: "CCITT Group 4", 7: "JPEG", 50001: "WebP"}
_REJECTED_COMPRESSIONS = {6: "old-style JPEG", 33003: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 50002: "JPEG XL"}
_GRAY_ZERO_IS_WHITE, _GRAY, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLORS = {_GRAY_ZERO_IS_WHITE: 1, _GRAY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_REJECTED_COLORS = {4: "transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 32803: "raw sensor data (CFA)"}
_INCHES_PER_UNIT = {2: 1.0, 3: 2.54}


class TiffError(ValueError):
    """A TIFF that cannot be read; the message says why and does not name the file."""


def read_tiff(file: Any, limit: int) -> StoredImage:
    """Reads the first image of a TIFF.

    Args:
        file: The file, at its start.
        limit: Largest number of pixels.

    Raises:
        TiffError: If the file is damaged or of a kind that is not supported, which the message names.
    """
    tags = _Tags(file)
    if tags.height * tags.width > limit:
        raise TiffError(f"too large: {tags.height}\u00d7{tags.width} pixels (limit {limit})")
    if tags.one(_COMPRESSION, 1) in _IMAGE_COMPRESSIONS:
        image = StoredImage.of(_read_with_pillow(file, tags))
    else:
        image = _colors(upright(_read_samples(file, tags), tags.one(_ORIENTATION, 1)), tags)
    return replace(image, metadata=tags.metadata(), several=tags.several(file))


def tiff_size(file: Any) -> tuple[int, int]:
    """Reads (height, width) of the upright image from the tags."""
    tags = _Tags(file)
    turned = tags.one(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (tags.width, tags.height) if turned else (tags.height, tags.width)


class _Tags:
    """The tags of the first image, with the defaults of the specification."""

    def __init__(self, file: Any):
        header = file.read(16)
        if header[:4] == SIGNATURES[3]:
            raise TiffError("big-endian BigTIFF is not supported; save it as TIFF")
        file.seek(0)
        # `Image.Exif` finds the subdirectories of EXIF and GPS, too.
        self.exif = Image.Exif()
        directory = ImageFileDirectory_v2(header if header[2] == 43 else header[:8])
        self.exif.bigtiff = header[2] == 43
        self.exif.endian = "<" if header[:2] == b"II" else ">"
        self.exif.load_from_fp(file, directory.next)
        self.swapped = (self.exif.endian == "<") != (sys.byteorder == "little")
        self.width, self.height = self.one(_WIDTH, 0), self.one(_HEIGHT, 0)
        if self.width < 1 or self.height < 1:
            raise TiffError("not a complete TIFF: it has no image size")
        self.photometric = self.one(_PHOTOMETRIC, _GRAY)
        self.samples = self.one(_SAMPLES, 1)

    def all(self, tag: int, default: tuple = ()) -> tuple:
        value = self.exif.get(tag, default)
        if isinstance(value, bytes):
            return tuple(value)
        return value if isinstance(value, tuple) else (value,)

    def one(self, tag: int, default: int) -> int:
        value = self.all(tag, (default,))[:1] or (default,)
        return int(value[0])

    def same(self, tag: int, default: int) -> int:
        """Returns a number that each sample of a pixel has; it must be the same for all of them."""
        values = self.all(tag, (default,))
        if len(set(values)) > 1:
            raise TiffError(f"the samples of a pixel differ in kind (tag {tag}: {', '.join(map(str, values))})")
        return int(values[0])

    def metadata(self) -> Metadata:
        # In a TIFF this may be a program's description of the file's structure (ImageJ, OME).
        if _DESCRIPTION in self.exif:
            del self.exif[_DESCRIPTION]
        info: dict[str, Any] = {}
        unit = _INCHES_PER_UNIT.get(self.one(_RESOLUTION_UNIT, 2))
        if unit and _X_RESOLUTION in self.exif and _Y_RESOLUTION in self.exif:
            info["dpi"] = [float(self.exif[tag]) * unit for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
        profile = self.exif.get(_PROFILE)
        return read_metadata(self.exif, info | ({"icc_profile": profile} if isinstance(profile, bytes) else {}))

    def several(self, file: Any) -> bool:
        """Returns whether another full image follows; thumbnails and overviews do not count."""
        head, following = self.exif._get_head(), self.exif._info.next  # type: ignore[union-attr]
        while following:
            directory = ImageFileDirectory_v2(head)
            file.seek(following)
            directory.load(file)
            if not int(directory.get(_SUBFILE, 0)) & 0b101:
                return True
            following = directory.next if directory.next > following else 0
        return False


def _read_with_pillow(file: Any, tags: _Tags) -> Shaped[np.ndarray, "h w *c"]:
    """Decodes an image of up to 8 bits as a whole, upright."""
    name = _IMAGE_COMPRESSIONS[tags.one(_COMPRESSION, 1)]
    if tags.same(_BITS, 1) > 8:
        raise TiffError(f"{name} compression of {tags.same(_BITS, 1)} bits is not supported; save it without")
    file.seek(0)
    with Image.open(file, formats=("TIFF",)) as image:
        if image.mode not in ("1", "L", "RGB", "RGBA", "YCbCr", "CMYK"):
            raise TiffError(f"{name} compression of {image.mode} is not supported; save it without")
        # Loading applies the orientation.
        image.load()
        return np.array(image.convert({"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")))


# --------------------------------------------------------------------------------------------------- Bytes to samples


def _read_samples(file: Any, tags: _Tags) -> Shaped[np.ndarray, "h w c"]:
    """Reads the samples of all pixels, as they are stored, from strips or tiles."""
    bits, dtype = _sample_type(tags)
    tiled = _TILE_OFFSETS in tags.exif
    if tiled:
        rows, columns = tags.one(_TILE_HEIGHT, 0), tags.one(_TILE_WIDTH, 0)
        offsets, counts = tags.all(_TILE_OFFSETS), tags.all(_TILE_COUNTS)
    else:
        rows, columns = min(tags.one(_ROWS, tags.height), tags.height), tags.width
        offsets, counts = tags.all(_OFFSETS), tags.all(_COUNTS)
    planes = tags.samples if tags.one(_PLANES, 1) == 2 else 1
    across, down = -(-tags.width // max(columns, 1)), -(-tags.height // max(rows, 1))
    if rows < 1 or columns < 1 or rows * columns > 4 * tags.height * tags.width + (1 << 20):
        raise TiffError("damaged: strips or tiles of an impossible size")
    if len(counts) != len(offsets) and len(offsets) == 1:
        counts = (-1,)  # One strip up to the end of the file.
    if len(offsets) != across * down * planes or len(counts) != len(offsets):
        raise TiffError(f"damaged: {across * down * planes} strips or tiles are needed, {len(offsets)} listed")
    image = np.empty((tags.height, tags.width, tags.samples), dtype)
    for index, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        plane, place = divmod(index, across * down)
        top, left = place // across * rows, place % across * columns
        height = rows if tiled else min(rows, tags.height - top)
        file.seek(offset)
        segment = _Segment(tags, height, columns, tags.samples // planes, bits)
        part = segment.decode(file.read(count), dtype)
        target = image[top : top + height, left : left + columns, plane : plane + tags.samples // planes]
        target[:] = part[: target.shape[0], : target.shape[1]]
    return image


def _sample_type(tags: _Tags) -> tuple[int, np.dtype]:
    """Returns the number of bits of a sample, and the dtype that holds it."""
    bits, form = tags.same(_BITS, 1), tags.same(_FORMAT, 1)
    kind = {1: "u", 2: "i", 3: "f", 4: "u"}.get(form)
    if kind == "u" and (1 <= bits <= 16 or bits in (32, 64)):
        return bits, np.dtype(f"u{next(size for size in (1, 2, 4, 8) if bits <= 8 * size)}")
    if kind and bits in {"i": (8, 16, 32, 64), "f": (16, 32, 64), "u": ()}[kind]:
        return bits, np.dtype(f"{kind}{bits // 8}")
    names = {2: "signed", 3: "float", 5: "complex integer", 6: "complex"}
    raise TiffError(f"{bits}-bit {names.get(form, f'sample format {form}')} is not supported")


class _Segment:
    """A strip or tile: its number of rows, columns and samples per pixel, and how it is stored."""

    def __init__(self, tags: _Tags, rows: int, columns: int, samples: int, bits: int):
        self.tags, self.shape, self.bits = tags, (rows, columns, samples), bits
        self.row_bytes = -(-columns * samples * bits // 8)

    def decode(self, data: bytes, dtype: np.dtype) -> Shaped[np.ndarray, "rows columns samples"]:
        """Decompresses a segment and reads its samples."""
        if self.tags.one(_FILL_ORDER, 1) == 2:
            data = data.translate(_REVERSED)
        compression = self.tags.one(_COMPRESSION, 1)
        if compression != 1:
            data = self._decompressed(data, compression)
        needed = self.row_bytes * self.shape[0]
        if len(data) < needed:
            raise TiffError("image file is truncated")
        stored = np.frombuffer(data, np.uint8, needed).reshape(self.shape[0], self.row_bytes)
        # As in libtiff, only these compressions have predictors.
        predictor = self.tags.one(_PREDICTOR, 1) if compression not in (1, 32773) else 1
        if predictor == 3 and dtype.kind == "f":
            return self._float_differences_summed(stored, dtype)
        if predictor not in (1, 2) or (predictor == 2 and self.bits not in (8, 16, 32, 64)):
            raise TiffError(f"predictor {predictor} of {self.bits}-bit samples is not supported")
        samples = self._samples(stored, dtype)
        if predictor == 2:
            unsigned = samples.view(f"u{dtype.itemsize}")
            samples = np.cumsum(unsigned, axis=1, dtype=unsigned.dtype).view(dtype)
        return samples

    def _samples(self, stored: np.ndarray, dtype: np.dtype) -> np.ndarray:
        if self.bits == 8 * dtype.itemsize:
            samples = stored.view(dtype.newbyteorder("S") if self.tags.swapped else dtype)
            return samples.reshape(self.shape).astype(dtype)
        # Other numbers of bits are packed, the highest bit first, whatever the byte order.
        count = self.shape[1] * self.shape[2]
        samples = np.zeros((self.shape[0], count), dtype)
        bits = np.unpackbits(stored, axis=1)[:, : count * self.bits].reshape(self.shape[0], count, self.bits)
        for bit in range(self.bits):
            samples = (samples << dtype.type(1)) | bits[..., bit]
        return samples.reshape(self.shape)

    def _float_differences_summed(self, stored: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Undoes predictor 3: differences of bytes, of which the highest of all samples in a row come first."""
        rows, columns, samples = self.shape
        summed = np.cumsum(stored.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        ordered = summed.reshape(rows, dtype.itemsize, columns * samples).swapaxes(1, 2)
        return np.ascontiguousarray(ordered).view(dtype.newbyteorder(">")).reshape(self.shape).astype(dtype)

    def _decompressed(self, data: bytes, compression: int) -> bytes:
        """Decompresses with libtiff: as a TIFF of its own, of 8-bit grey, whose pixels are the bytes."""
        name = _COMPRESSIONS.get(compression)
        if name is None:
            name = _REJECTED_COMPRESSIONS.get(compression, f"compression {compression}")
            raise TiffError(f"{name} is not supported; save it uncompressed or with LZW or Deflate")
        needed = self.row_bytes * self.shape[0]
        wrapper = {_WIDTH: self.row_bytes, _HEIGHT: self.shape[0], _BITS: 8, _COMPRESSION: compression}
        wrapper |= {_PHOTOMETRIC: _GRAY, _SAMPLES: 1, _ROWS: self.shape[0]}
        try:
            if name == "Deflate":
                # libtiff would print of damaged data.
                return zlib.decompressobj().decompress(data, needed)
            # Not `Image.open`, which has a limit for pixels, and these are bytes.
            with TiffImageFile(io.BytesIO(_encoded(wrapper, data))) as image:
                return np.asarray(image).tobytes()
        except Exception as error:
            raise TiffError(f"image file is truncated or damaged ({name} data can't be decompressed)") from error


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


# --------------------------------------------------------------------------------------------------- Samples to pixels


def _colors(samples: Shaped[np.ndarray, "h w c"], tags: _Tags) -> StoredImage:
    """Interprets samples as grey or RGB, with alpha where the file says so."""
    photometric = tags.photometric
    if photometric not in _COLORS:
        raise TiffError(
            f"{_REJECTED_COLORS.get(photometric, f'photometric interpretation {photometric}')} images "
            "are not supported; save it as grey or RGB"
        )
    count = _COLORS[photometric]
    colors, extra = samples[..., :count], samples[..., count:]
    kinds = tags.all(_EXTRA) if extra.shape[2] else ()
    if colors.shape[2] < count or (count == 1 and extra.shape[2] > 1 and photometric != _PALETTE):
        raise TiffError(f"{samples.shape[2]} samples per pixel are neither grey nor colours; save one of them")
    bits = tags.same(_BITS, 1)
    unsigned, white = samples.dtype.kind == "u", float((1 << min(bits, 16)) - 1)
    if photometric == _PALETTE:
        return StoredImage.of(_looked_up(colors[..., 0], tags))
    if photometric == _GRAY_ZERO_IS_WHITE:
        if not unsigned:
            raise TiffError("0 is white (PhotometricInterpretation), which is undefined for signed and float samples")
        colors = colors.dtype.type((1 << bits) - 1) - colors
    if photometric in (_CMYK, _YCBCR):
        colors = _converted(colors, photometric, tags)
    if kinds[:1] in ((_ASSOCIATED,), (_UNASSOCIATED,)):
        alpha = extra[..., :1]
        if kinds[0] == _ASSOCIATED:
            colors = _divided(colors, alpha, white)
        colors = np.concatenate([colors, alpha], axis=2)
    if unsigned and bits < 8:
        colors, white = np.rint(colors * (255 / white)).astype(np.uint8), 255.0
    pixels = colors[..., 0] if colors.shape[2] == 1 else colors
    return StoredImage.of(np.ascontiguousarray(pixels), white if unsigned and bits <= 16 else None)


def _looked_up(indices: Shaped[np.ndarray, "h w"], tags: _Tags) -> Shaped[np.ndarray, "h w 3"]:
    table = np.array(tags.all(_COLORMAP), np.int64)
    if table.size % 3 or table.size // 3 <= int(indices.max(initial=0)):
        raise TiffError("damaged: its palette has too few colours")
    return (table.reshape(3, -1).T >> 8).astype(np.uint8)[indices]


def _converted(colors: Shaped[np.ndarray, "h w c"], photometric: int, tags: _Tags) -> Shaped[np.ndarray, "h w 3"]:
    """Converts CMYK and YCbCr of 8 bits to RGB as Pillow does."""
    mode = "CMYK" if photometric == _CMYK else "YCbCr"
    whole = tags.one(_INK_SET, 1) == 1 if photometric == _CMYK else tags.all(_SUBSAMPLING, (2, 2)) == (1, 1)
    if colors.dtype != np.uint8 or tags.same(_BITS, 1) != 8 or not whole:
        raise TiffError(f"this kind of {mode} is not supported; save it as RGB")
    return np.array(Image.frombytes(mode, colors.shape[1::-1], colors.tobytes()).convert("RGB"))


def _divided(colors: np.ndarray, alpha: np.ndarray, white: int | float) -> np.ndarray:
    """Divides colours by the alpha that they were multiplied with when they were stored."""
    if colors.dtype.kind == "i":
        raise TiffError("associated alpha of signed samples is not supported")
    full = 1.0 if colors.dtype.kind == "f" else white
    divided = colors * (full / np.where(alpha > 0, alpha, full))
    return divided.astype(colors.dtype) if full == 1.0 else np.rint(np.minimum(divided, full)).astype(colors.dtype)


# ------------------------------------------------------------------------------------------------------------ Writing


def encode_tiff(image: Shaped[np.ndarray, "h w"] | Shaped[np.ndarray, "h w c"], metadata: Metadata) -> bytes:
    """Encodes an image as uncompressed TIFF: grey, grey and alpha, RGB, or RGB and alpha, of any real dtype."""
    height, width, samples = image.shape if image.ndim == 3 else (*image.shape, 1)
    bits, form = 8 * image.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[image.dtype.kind]
    tags: dict[int, Any] = {_WIDTH: width, _HEIGHT: height, _BITS: (bits,) * samples, _COMPRESSION: 1}
    tags |= {_PHOTOMETRIC: _RGB if samples >= 3 else _GRAY, _SAMPLES: samples, _ROWS: height}
    tags |= {_PLANES: 1, _FORMAT: (form,) * samples}
    if samples in (2, 4):
        tags[_EXTRA] = (_UNASSOCIATED,)
    if metadata.dpi is not None:
        tags |= {_X_RESOLUTION: metadata.dpi[0], _Y_RESOLUTION: metadata.dpi[1], _RESOLUTION_UNIT: 2}
    if (profile := metadata.profile(samples)) is not None:
        tags[_PROFILE] = profile
    return _encoded(tags | metadata.tags(), image.astype(image.dtype.newbyteorder("<")).tobytes())


def _encoded(tags: dict[int, Any], data: bytes) -> bytes:
    """Encodes a little-endian TIFF with one strip."""
    directory = ImageFileDirectory_v2(prefix=b"II")
    directory.tagtype |= {_OFFSETS: _LONG, _COUNTS: _LONG, _WIDTH: _LONG, _HEIGHT: _LONG, _ROWS: _LONG}
    directory.tagtype[_PROFILE] = _UNDEFINED
    # `tobytes` adds the end of the directory to the offset.
    for tag, value in (tags | {_OFFSETS: 0, _COUNTS: len(data)}).items():
        directory[tag] = value
    return b"II*\0\x08\0\0\0" + directory.tobytes(8) + data
