"""Infrared images of more than 8 bits: raw values of the file, and their scaling to [0, 1]."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Int32, UInt8, UInt16
from PIL import Image

from rpfnet_jax.data.images import ImageError, decode, eight_bit, to_gray, upright

RawImage = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"] | Int32[np.ndarray, "h w"] | Float32[np.ndarray, "h w"]
Mode = Literal["percentile", "range", "full"]

_BITS = {"uint8": "8-bit", "uint16": "16-bit", "int32": "integer", "float32": "float"}
_NUMBER = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"
_WITH_LIMITS = re.compile(rf"(percentile|range):{_NUMBER},{_NUMBER}")
_FORMS = "use percentile:<low>,<high> (such as percentile:1,99), range:<low>,<high> (such as range:7000,9500) or full"


@dataclass(frozen=True)
class ThermalScaling:
    """A linear map from raw values to [0, 1], clipped beyond its two limits.

    Attributes:
        mode: `percentile`: the limits are these percentiles of each image, so that one temperature gets different
            greys in different images. `range`: the limits are these raw values in all images, as clips and
            measurements need it. `full`: 0 and the largest number of the file's 8 or 16 bits.
        low: Percentile or raw value that becomes 0; ignored by `full`.
        high: Percentile or raw value that becomes 1; ignored by `full`.

    Raises:
        ValueError: If the mode is unknown, a limit is not finite, `low` is not below `high`, or a percentile lies
            outside [0, 100].
    """

    mode: Mode = "percentile"
    low: int | float = 1
    high: int | float = 99

    def __post_init__(self):
        if self.mode not in get_args(Mode):
            raise ValueError(f"unknown scaling {self.mode!r}; {_FORMS}")
        if self.mode == "full":
            return
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"the low limit must be below the high one, got {self}")
        if self.mode == "percentile" and not 0 <= self.low < self.high <= 100:
            raise ValueError(f"percentiles lie in 0..100, got {self}")

    @classmethod
    def parse(cls, text: str) -> "ThermalScaling":
        """Reads `percentile:1,99`, `range:7000,9500` or `full`; case and spaces are ignored.

        `parse(str(scaling)) == scaling` to 15 digits.

        Raises:
            ValueError: If the text has another form or the limits are wrong.
        """
        compact = "".join(text.lower().split())
        if compact == "full":
            return cls("full")
        match = _WITH_LIMITS.fullmatch(compact)
        try:
            if match is None:
                raise ValueError(_FORMS)
            mode: Mode = "range" if match[1] == "range" else "percentile"
            return cls(mode, float(match[2]), float(match[3]))
        except ValueError as error:
            raise ValueError(f"thermal scaling {text!r}: {error}") from None

    def __str__(self) -> str:
        return self.mode if self.mode == "full" else f"{self.mode}:{self.low:.15g},{self.high:.15g}"

    def limits(self, values: RawImage) -> tuple[float, float]:
        """Computes the raw values (low, high) that become 0 and 1; as a `range`, they fix the scaling of a clip.

        They are equal only for percentiles of a (nearly) constant image. All values must be finite.

        Raises:
            ValueError: If the scaling is `full` and the dtype has more than 16 bits.
        """
        if self.mode == "range":
            return float(self.low), float(self.high)
        if self.mode == "percentile":
            low, high = np.percentile(values, [self.low, self.high])
            return float(low), float(high)
        if values.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"the scaling 'full' is defined for 8 and 16 bits, not for {_bits(values)}; {_FORMS}")
        return 0.0, float(np.iinfo(values.dtype).max)


DEFAULT_SCALING = ThermalScaling()


def read_thermal(path: str | Path, scaling: ThermalScaling = DEFAULT_SCALING) -> tuple[Float32[np.ndarray, "h w"], str]:
    """Reads an infrared image of any bit depth and scales it to [0, 1].

    8-bit files count as already scaled: they are divided by 255 whatever `scaling` is.

    Returns:
        The image, and one line for the log about the scaling, such as
        `16-bit, percentile 1-99: 7311..8650 -> 0..1, 1.9% clipped`.

    Raises:
        ImageError: If the file cannot be read (see `read_raw`), values are not finite, or `scaling` is `full` for
            32-bit values.
    """
    path = Path(path)
    values = read_raw(path)
    try:
        return scale_thermal(values, ThermalScaling("full") if values.dtype == np.uint8 else scaling)
    except ValueError as error:
        raise ImageError(path, str(error)) from None


def scale_thermal(values: RawImage, scaling: ThermalScaling) -> tuple[Float32[np.ndarray, "h w"], str]:
    """Scales raw values to [0, 1]: `clip((values - low) / (high - low), 0, 1)`.

    An image whose two percentiles are equal (constant but for few pixels) becomes 1 above that value and 0 elsewhere:
    noise is not stretched, and a small hot spot stays.

    Returns:
        The scaled image, and one line about the scaling; see `read_thermal`.

    Raises:
        ValueError: If a value is NaN or infinite, the image is empty, or `scaling` does not fit the dtype.
    """
    if values.size == 0:
        raise ValueError(f"the image is empty, shape {values.shape}")
    invalid = ~np.isfinite(values)
    if invalid.any():
        row, column = np.argwhere(invalid)[0]
        raise ValueError(
            f"{invalid.sum()} of {values.size} values are NaN or infinite, the first at row {row}, column {column}; "
            "replace them (dead or masked pixels) before fusing"
        )
    low, high = scaling.limits(values)
    name = scaling.mode if scaling.mode != "percentile" else f"percentile {scaling.low:.7g}-{scaling.high:.7g}"
    name = f"{_bits(values)}, {name}"
    if low == high:
        return (values > low).astype(np.float32), f"{name}: both {low:.7g}, above it -> 1, else -> 0"
    clipped = np.mean((values < low) | (values > high))
    # Computed in float64, because float32 cannot tell neighbouring 32-bit integers apart.
    scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
    return scaled, f"{name}: {low:.7g}..{high:.7g} -> 0..1, {clipped:.1%} clipped"


def read_raw(path: str | Path) -> RawImage:
    """Reads an infrared image without scaling: 16-bit PNG or TIFF, 32-bit TIFF, or any 8-bit image.

    EXIF orientation is applied. Pillow scales PGM files with a maximum other than 65535 to that maximum.

    Returns:
        uint8 for 8-bit files (colour reduced to BT.601 luma); uint16 for 16-bit files and for integers within that
        range; int32 for other integers; float32.

    Raises:
        ImageError: If the file cannot be decoded, is 16-bit colour (its lower 8 bits would be lost), or holds
            integers beyond 31 bits.
    """
    return decode(path, _raw_values)


def _raw_values(image: Image.Image, path: Path) -> np.ndarray:
    # Pillow opens 16-bit colour as 8-bit; the true depth is only known before the pixels are decoded.
    tiles = getattr(image, "tile", None)
    stored = str(tiles[0].args if tiles else "")
    if ";16" in stored and not image.mode.startswith("I"):
        raise ImageError(path, f"16 bits per channel in {len(image.getbands())} channels; save it as 16-bit grey")
    if image.mode == "F":
        return np.array(upright(image), dtype=np.float32)
    if not image.mode.startswith("I"):
        return to_gray(eight_bit(image, path))
    values = np.asarray(upright(image))
    if values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max:
        return values.astype(np.uint16)
    # Pillow has no unsigned 32-bit mode, so that large values come out negative; "S" marks signed files.
    if values.min() < 0 and "S" not in stored:
        raise ImageError(path, "unsigned integers beyond 31 bits; save it as 16-bit or 32-bit float")
    return values.astype(np.int32)


def _bits(values: np.ndarray) -> str:
    return _BITS.get(values.dtype.name, values.dtype.name)
