"""Warnings of images that are usable but probably not what the user meant."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from rpfnet_jax.data.pixels import StoredImage
from rpfnet_jax.files import InputWarning

Side = Literal["ir", "vis"]

# Radiometric counts of 14 bits stored in 16 use at most a quarter of the range.
_SMALL_PART = 0.25
# Share of the values on either side that may be dead pixels.
_DEAD = 0.1
# Compressed grey has chroma of a few levels, and a camera's overlay colours a small part of the image.
_COLORED, _COLORED_PART = 1 / 8, 0.1
_ENOUGH_PIXELS = 1 << 18
_LABELS = {"ir": "infrared ", "vis": "visible ", None: ""}

_lock = threading.Lock()
_warned: set[tuple[Path | None, str]] = set()


def warn_of_input(image: StoredImage, side: Side | None, scaled: bool = False, false_colors: bool = True) -> None:
    """Warns (`InputWarning`) of images that are usable but would hardly give the result that was meant.

    These are images of more than 8 bits that use a small part of their range and are not scaled, false-colour infrared
    images, and files of several images, of which only the first is used. A kind of warning is given once for all files
    of a folder, and once for images that come from memory.

    Args:
        image: The image before it is scaled; its `path` gives the name and the folder.
        side: The role of the image; None: unknown.
        scaled: Whether a scaling other than `full` follows.
        false_colors: Whether to warn of colours on the infrared side; False where they are meant to be there.
    """
    if image.several:
        _warn(image, "several", "the file holds several images, and only the first is used")
    if side == "ir" and false_colors and image.pixels.ndim == 3 and _is_colored(image):
        problem = (
            "the infrared image has false colours, whose luminance is no temperature (hot red is darker than yellow); "
            "export it in grey (white-hot) instead"
        )
        _warn(image, "colors", problem)
    if not scaled and image.pixels.dtype != np.uint8 and image.white:
        low, high = map(float, np.percentile(_sample(image.pixels), [_DEAD, 100 - _DEAD], method="nearest"))
        part = (high - low) / image.white
        if 0 < part <= _SMALL_PART:
            name = side or "ir"
            problem = (
                f"the {_LABELS[side]}image uses {part:.1%} of its {image.depth} range (values {low:.7g} to {high:.7g} "
                f"of 0 to {image.white:.7g}) and appears nearly uniform; --{name}-scaling=percentile:1,99 spreads it "
                f'(in Python {name}_scaling="percentile:1,99", in a configuration data.{name}_scaling)'
            )
            _warn(image, "range", problem)


def _warn(image: StoredImage, kind: str, problem: str) -> None:
    key = (image.path.parent if image.path else None, kind)
    with _lock:  # Images are read in threads.
        first = key not in _warned
        _warned.add(key)
    if first:
        warnings.warn(f"{image.path}: {problem}" if image.path else problem, InputWarning, stacklevel=3)


def _sample(pixels: np.ndarray) -> np.ndarray:
    """Returns every n-th row and column of a large image: enough to judge it by."""
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / _ENOUGH_PIXELS) ** 0.5))
    return pixels[::step, ::step]


def _is_colored(image: StoredImage) -> bool:
    sample = _sample(image.pixels).astype(np.float64)
    difference = sample.max(axis=2) - sample.min(axis=2)
    return bool(np.mean(difference > _COLORED * (image.white or np.ptp(sample) or 1)) > _COLORED_PART)
