"""Scaling of images of more than 8 bits to [0, 1].

Everything that takes images (the commands, `Fuser.fuse`, training, metrics, video) reads them as `StoredImage`, warns
with `data.checks.warn_of_input`, and scales them with `scaled` or `scaled_gray`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Shaped

from rpfnet_jax.data.images import read_stored
from rpfnet_jax.data.pixels import ColorImage, GrayImage, StoredImage, to_gray

# Grey of any real dtype.
RawImage = Shaped[np.ndarray, "h w"]
Mode = Literal["percentile", "range", "full"]

_STRIP = 256
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

    def limits(self, values: Shaped[np.ndarray, "..."], white: int | float | None = None) -> tuple[float, float]:
        """Computes the raw values (low, high) that become 0 and 1; as a `range`, they fix the scaling of a clip.

        They are equal only for percentiles of a (nearly) constant image. All values must be finite.

        Args:
            values: (h, w) or (h, w, 3); the limits of colours are those of all channels together.
            white: The value of white; None: that of the dtype, if it has one.

        Raises:
            ValueError: If the scaling is `full` and white is undefined, or floats lie outside [0, 1].
        """
        if self.mode == "range":
            return float(self.low), float(self.high)
        if self.mode == "percentile":
            low, high = np.percentile(values, [self.low, self.high])
            return float(low), float(high)
        return 0.0, float(StoredImage.of(values, white).check_range())


FULL = ThermalScaling("full")
DEFAULT_SCALING = ThermalScaling()


@dataclass(frozen=True)
class Scalings:
    """The scalings of a pair of images."""

    ir: ThermalScaling = FULL
    vis: ThermalScaling = FULL

    @classmethod
    def of(cls, ir: ThermalScaling | str, vis: ThermalScaling | str) -> Scalings:
        """Makes scalings of text or of what text means."""
        return cls(*(ThermalScaling.parse(side) if isinstance(side, str) else side for side in (ir, vis)))


def read_thermal(path: str | Path, scaling: ThermalScaling = DEFAULT_SCALING) -> tuple[Float32[np.ndarray, "h w"], str]:
    """Reads an infrared image of any bit depth and scales it to [0, 1].

    8-bit files count as already scaled: they are divided by 255 whatever `scaling` is.

    Returns:
        The image, and one line for the log about the scaling, such as
        `16-bit, percentile 1-99: 7311..8650 -> 0..1, 1.9% clipped`.

    Raises:
        ImageError: If the file cannot be read, values are not finite, or `scaling` is `full` for values without a
            defined white.
    """
    return scaled_gray(read_stored(path), scaling)


def read_raw(path: str | Path) -> RawImage:
    """Reads an infrared image without scaling, upright; colour is reduced to BT.601 luma.

    Returns:
        uint8 for 8-bit files, uint16 for those of 9 to 16 bits, and the dtype of the file for others.

    Raises:
        ImageError: If the file cannot be read.
    """
    return to_gray(read_stored(path).pixels)


def read_levels(path: str | Path, scaling: ThermalScaling = FULL) -> GrayImage | ColorImage:
    """Reads an image as 8-bit grey or RGB after scaling; with `full` the same as `read_image`.

    Raises:
        ImageError: As `read_thermal`.
    """
    return scaled(read_stored(path), scaling).eight_bit()


def scaled_gray(image: StoredImage, scaling: ThermalScaling) -> tuple[Float32[np.ndarray, "h w"], str]:
    """Reduces an image to grey and scales it; see `read_thermal`."""
    gray = replace(image, pixels=to_gray(image.pixels), alpha=None)
    try:
        return scale_thermal(gray.pixels, FULL if gray.pixels.dtype == np.uint8 else scaling, gray.white)
    except ValueError as error:
        raise image.error(str(error)) from None


def scaled(image: StoredImage, scaling: ThermalScaling) -> StoredImage:
    """Scales an image of more than 8 bits to float32 in [0, 1]; with `full`, or of 8 bits, it stays as it is.

    Raises:
        ValueError: As `scale_thermal`; an `ImageError` that names the file, if there is one.
    """
    if scaling.mode == "full" or image.pixels.dtype == np.uint8:
        return image
    try:
        return replace(image, pixels=scale_thermal(image.pixels, scaling, image.white)[0], white=1)
    except ValueError as error:
        raise image.error(str(error)) from None


def scale_thermal(
    values: Shaped[np.ndarray, "h w *c"], scaling: ThermalScaling, white: int | float | None = None
) -> tuple[Float32[np.ndarray, "h w *c"], str]:
    """Scales raw values to [0, 1]: `clip((values - low) / (high - low), 0, 1)`.

    An image whose two percentiles are equal (constant but for few pixels) becomes 1 above that value and 0 elsewhere:
    noise is not stretched, and a small hot spot stays.

    Args:
        values: The image, of any real dtype.
        scaling: The scaling.
        white: The value of white, for `full`; None: that of the dtype, if it has one.

    Returns:
        The scaled image, and one line about the scaling; see `read_thermal`.

    Raises:
        ValueError: If a value is NaN or infinite, the image is empty, or `scaling` does not fit the dtype.
    """
    if values.size == 0:
        raise ValueError(f"the image is empty, shape {values.shape}")
    if values.dtype.kind == "f" and (invalid := ~np.isfinite(values)).any():
        row, column = np.argwhere(invalid)[0][:2]
        raise ValueError(
            f"{invalid.sum()} of {values.size} values are NaN or infinite, the first at row {row}, column {column}; "
            "replace them (dead or masked pixels) before fusing"
        )
    low, high = scaling.limits(values, white)
    name = scaling.mode if scaling.mode != "percentile" else f"percentile {scaling.low:.7g}-{scaling.high:.7g}"
    name = f"{StoredImage.of(values, white).depth}, {name}"
    if low == high:
        return (values > low).astype(np.float32), f"{name}: both {low:.7g}, above it -> 1, else -> 0"
    clipped = np.mean((values < low) | (values > high))
    result = np.empty(values.shape, np.float32)
    for top in range(0, len(values), _STRIP):
        # In float64, because float32 cannot tell neighbouring 32-bit integers apart; in strips, to save memory.
        strip = values[top : top + _STRIP].astype(np.float64)
        result[top : top + _STRIP] = np.clip((strip - low) / (high - low), 0, 1)
    return result, f"{name}: {low:.7g}..{high:.7g} -> 0..1, {clipped:.1%} clipped"
