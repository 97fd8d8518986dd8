"""A contact sheet: pictures in a grid, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

_GAP = 4
_LABEL = 14


def contact_sheet(
    rows: Mapping[str, Sequence[UInt8[np.ndarray, "..."]]], titles: Sequence[str], height: int = 200
) -> UInt8[np.ndarray, "y x 3"]:
    """Draws labelled rows of pictures, each scaled to the same height.

    Args:
        rows: row label -> pictures, uint8 grey or RGB, one per title.
        titles: column titles, such as `IR`, `VIS`, `fused`.
        height: height of each picture on the sheet in pixels.

    Returns:
        The sheet as an RGB picture.

    Raises:
        ValueError: no rows, or a row without one picture per title.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    strips = []
    for label, pictures in rows.items():
        if len(pictures) != len(titles):
            raise ValueError(f"row {label!r} has {len(pictures)} pictures for {len(titles)} titles")
        scaled = [_scaled(picture, height) for picture in pictures]
        strip = Image.new("RGB", (sum(p.width + _GAP for p in scaled) + _GAP, height + _LABEL + _GAP), "white")
        draw = ImageDraw.Draw(strip)
        x = _GAP
        for title, picture in zip(titles, scaled, strict=True):
            draw.text((x, 1), f"{label}: {title}", fill="black")
            strip.paste(picture, (x, _LABEL))
            x += picture.width + _GAP
        strips.append(strip)
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    y = 0
    for strip in strips:
        sheet.paste(strip, (0, y))
        y += strip.height
    return np.asarray(sheet)


def _scaled(picture: np.ndarray, height: int) -> Image.Image:
    image = Image.fromarray(picture).convert("RGB")
    return image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)
