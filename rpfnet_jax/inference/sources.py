"""From the images that a user passes to luminances, and from a fused luminance back to an image of the same kind."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Array, Float32, Shaped
from PIL import Image

from rpfnet_jax.data.color import luminance, restore_color, restore_gray, to_uint8
from rpfnet_jax.data.images import ImageError, eight_bit, read_image, to_gray, upright
from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.thermal import read_raw

OutputType = Literal["uint8", "uint16", "float32"]
# Not "h w *channels": the two images of a call may differ in channels, and a difference in size has its own error.
ImageInput = str | os.PathLike[str] | Image.Image | Shaped[np.ndarray, "..."] | Shaped[Array, "..."]

_LEVELS = {"uint8": 255, "uint16": 65535}
_STRIP = 256


@dataclasses.dataclass(frozen=True)
class Sources:
    """One registered pair, ready for the network.

    Attributes:
        ir: infrared luminance, float32 (H, W) in [0, 1].
        vis_y: luminance of the visible image, likewise.
        visible: the image that gives the result its shape and chroma, in general the visible one, with its own dtype:
            (H, W), (H, W, 1) or (H, W, 3), uint8, uint16 or float in [0, 1].
    """

    ir: np.ndarray
    vis_y: np.ndarray
    visible: np.ndarray

    def __post_init__(self) -> None:
        if self.ir.shape != self.vis_y.shape:
            raise ValueError(f"{sizes(self.ir, self.vis_y)}; they must be registered and of the same size")

    def restore(self, fused: Float32[np.ndarray, "h w"], color_range: Any, dtype: OutputType) -> np.ndarray:
        """Makes an image of the kind of `visible` from a fused luminance, with the chroma of `visible` if it has one.

        Integers are rounded half to even.

        Raises:
            ValueError: a value is NaN, which comes from unusable weights.
        """
        restored = np.empty(self.visible.shape, dtype)
        for rows in _strips(len(restored)):
            visible = self.visible[rows]
            if visible.ndim == 3 and visible.shape[2] == 3:
                image = restore_color(fused[rows], unit(visible), color_range)
            else:
                image = restore_gray(fused[rows], color_range).reshape(visible.shape)
            restored[rows] = quantised(image, dtype)
        return restored


def sizes(ir: np.ndarray, vis: np.ndarray) -> str:
    """Describes both sizes, for messages."""
    return f"IR is {ir.shape[0]}x{ir.shape[1]} and VIS is {vis.shape[0]}x{vis.shape[1]} (height x width)"


def stack_sources(batch: Sequence[Sources]) -> tuple[Float32[np.ndarray, "b h w 1"], Float32[np.ndarray, "b h w 1"]]:
    """Stacks the luminances of pairs of one size: infrared and visible."""
    return np.stack([pair.ir for pair in batch])[..., None], np.stack([pair.vis_y for pair in batch])[..., None]


def open_sources(ir: ImageInput, vis: ImageInput) -> Sources:
    """Reads and checks a pair of paths, PIL images or arrays.

    Raises:
        ImageError: a file can't be read.
        ValueError: sizes differ, or an array's shape, dtype or range is not as `ImageFuser.fuse` says.
    """
    visible = as_array(vis)
    return Sources(_infrared(ir), gray(visible), visible)


def open_pair(pair: Pair) -> Sources:
    """Does `open_sources` for a pair of files, and takes the chroma from the file that the pair names for it."""
    sources = open_sources(pair.ir, pair.vis)
    return sources if pair.color is None else dataclasses.replace(sources, visible=as_array(pair.color))


def _infrared(image: ImageInput) -> np.ndarray:
    """Returns infrared luminance, float32 (H, W) in [0, 1]; of a file all 16 bits, where it has them."""
    if not isinstance(image, str | os.PathLike):
        array = as_array(image)
    else:
        array = read_raw(Path(image))
        if array.dtype.name not in _LEVELS:
            raise ImageError(Path(image), "32-bit values have no defined range; scale them (data.read_thermal) first")
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        # Rounded as in a file, so that grey stored in three channels is exactly that grey.
        array = np.concatenate([to_gray(array[rows]) for rows in _strips(len(array))])
    return gray(array)


def as_array(image: ImageInput) -> np.ndarray:
    """Returns the pixels of an image with the dtype they have, (H, W), (H, W, 1) or (H, W, 3)."""
    if isinstance(image, Image.Image):
        # Infrared of 16 bits keeps them, as from a file.
        deep = image.mode.startswith("I;16")
        array = np.asarray(upright(image)).astype(np.uint16) if deep else eight_bit(image, Path("PIL image"))
    elif isinstance(image, str | os.PathLike):
        array = read_image(Path(image))
    else:
        array = np.asarray(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(f"an image must be (H, W), (H, W, 1) or (H, W, 3), got shape {array.shape}")
    return array


def unit(array: np.ndarray) -> np.ndarray:
    """Scales pixels to float32 in [0, 1]."""
    if (levels := _LEVELS.get(array.dtype.name)) is not None:
        return array.astype(np.float32) / np.float32(levels)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"an image must be uint8, uint16 or floating point in [0, 1], got {array.dtype}")
    # NaN fails this comparison, too.
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"a floating point image must lie in [0, 1], got [{array.min()}, {array.max()}]")
    return array.astype(np.float32)


def gray(image: np.ndarray) -> np.ndarray:
    """Computes the luminance of an image as float32 (H, W) in [0, 1]."""
    if image.ndim == 2 or image.shape[2] == 1:
        return unit(image.reshape(image.shape[:2]))
    plane = np.empty(image.shape[:2], np.float32)
    for rows in _strips(len(image)):
        plane[rows] = luminance(unit(image[rows]))
    return plane


def _strips(height: int) -> Iterator[slice]:
    """Yields groups of rows: float copies of a whole large image would be most of the memory that it takes."""
    return (slice(top, min(top + _STRIP, height)) for top in range(0, height, _STRIP))


def check_output_type(dtype: str) -> None:
    """Raises ValueError, naming the choices, when `dtype` is no `OutputType`."""
    if dtype not in get_args(OutputType):
        raise ValueError(f"dtype must be one of {', '.join(get_args(OutputType))}; got {dtype!r}")


def quantised(image: np.ndarray, dtype: OutputType) -> np.ndarray:
    """Converts an image in [0, 1] to `dtype`; see `Sources.restore`."""
    if np.isnan(image).any():
        raise ValueError("the fused image has values that are no numbers (NaN): the weights are not usable")
    if dtype == "float32":
        return image.astype(np.float32)
    if dtype == "uint16":
        return np.rint(np.clip(image, 0, 1) * 65535).astype(np.uint16)
    return to_uint8(image)
