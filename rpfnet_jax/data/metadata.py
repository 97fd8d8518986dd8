"""Metadata that a fused image takes over from its visible image: colour profile, EXIF with GPS, resolution."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.ExifTags import IFD, Base

# Tags of the main directory that describe the scene and the camera. The others (size, strips, orientation, thumbnail)
# describe the old file, and would be wrong in the new one, whose pixels are upright.
_DESCRIPTIVE = (
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.HostComputer,
    Base.Copyright,
)
_SUBDIRECTORIES = (IFD.Exif, IFD.GPSInfo)
# The size that the image had before it was turned upright.
_OUTDATED = (Base.ExifImageWidth, Base.ExifImageHeight, IFD.Interop)
# NaN, infinite and absurd resolutions occur in damaged files.
_HIGHEST_DPI = 1e6


@dataclass(frozen=True)
class Metadata:
    """Colour profile, EXIF and resolution of an image.

    Attributes:
        icc: ICC profile, which says what the pixels' values are as colours.
        exif: Descriptive EXIF tags, GPS among them, as JPEG and PNG files store them; without orientation and
            thumbnail. Empty where there are none.
        dpi: Pixels per inch, horizontal and vertical.
    """

    icc: bytes | None = None
    exif: bytes = b""
    dpi: tuple[float, float] | None = None

    def profile(self, channels: int) -> bytes | None:
        """Returns the ICC profile if it suits an image of so many channels, alpha included.

        A profile of RGB makes a grey image invalid, and one of CMYK has no meaning for the RGB that was made of it.
        """
        space = b"GRAY" if channels < 3 else b"RGB "
        return self.icc if self.icc and self.icc[16:20] == space else None

    def tags(self) -> dict[int, Any]:
        """Returns the EXIF tags by number; those of a subdirectory (EXIF, GPS) are a dict."""
        exif = Image.Exif()
        exif.load(self.exif)
        return _descriptive(exif)


def read_metadata(exif: Image.Exif, info: Mapping[Any, Any]) -> Metadata:
    """Makes `Metadata` of what Pillow found in a file: its EXIF tags and its `info`.

    EXIF that is damaged is left out.
    """
    encoded = b""
    # Damaged EXIF raises anything.
    with contextlib.suppress(Exception):
        if tags := _descriptive(exif):
            described = Image.Exif()
            for tag, value in tags.items():
                described[tag] = value
            encoded = described.tobytes()
    dpi = tuple(float(value) for value in info.get("dpi", ()))
    usable = len(dpi) == 2 and all(0 < value < _HIGHEST_DPI for value in dpi)
    return Metadata(info.get("icc_profile") or None, encoded, (dpi[0], dpi[1]) if usable else None)


def _descriptive(exif: Image.Exif) -> dict[int, Any]:
    tags = {int(tag): exif[tag] for tag in _DESCRIPTIVE if tag in exif}
    for place in _SUBDIRECTORIES:
        if found := {tag: value for tag, value in exif.get_ifd(place).items() if tag not in _OUTDATED}:
            tags[int(place)] = found
    return tags
