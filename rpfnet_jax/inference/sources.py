"""From what a user passes to what the network takes, and back to the kind of picture that was passed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
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
# Not "h w *channels": the two pictures of a call may differ in channels, and what differs in size gets its own error.
ImageInput = str | os.PathLike[str] | Image.Image | Shaped[np.ndarray, "..."] | Shaped[Array, "..."]

_STRIP = 256
_LEVELS = {"uint8": 255, "uint16": 65535}


@dataclasses.dataclass(frozen=True)
class Sources:
    """One registered pair, ready for the network.

    Attributes:
        ir: infrared luminance, float32 (H, W) in [0, 1].
        vis_y: luminance of the visible picture, likewise.
        visible: the picture that gives the colour, in general the visible one, as it came, (H, W), (H, W, 1) or
            (H, W, 3), uint8, uint16 or float in [0, 1]: the result gets its shape and chroma.
    """

    ir: np.ndarray
    vis_y: np.ndarray
    visible: np.ndarray

    def __post_init__(self) -> None:
        if self.ir.shape != self.vis_y.shape:
            raise ValueError(f"{sizes(self.ir, self.vis_y)}; they must be registered and of the same size")

    def padded(self, multiple: int) -> Sources:
        """The same with both luminances extended by reflection to multiples; `restore` cuts the result back.

        Fewer sizes are fewer compilations. It is not free of cost: what is added changes the picture's spectrum.
        """
        if multiple == 1:
            return self
        margins = [(0, -size % multiple) for size in self.ir.shape]
        ir, vis_y = (np.pad(plane, margins, mode="symmetric") for plane in (self.ir, self.vis_y))
        return Sources(ir, vis_y, self.visible)

    def restore(self, fused: Float32[np.ndarray, "h w"], color_range: Any, dtype: OutputType) -> np.ndarray:
        """The fused luminance in the visible picture's kind: with its chroma where it has one."""
        height, width = self.visible.shape[:2]
        restored = np.empty(self.visible.shape, dtype)
        for rows in _strips(height):
            strip, visible = fused[rows, :width], self.visible[rows]
            if visible.ndim == 3 and visible.shape[2] == 3:
                picture = restore_color(strip, unit(visible), color_range)
            else:
                picture = restore_gray(strip, color_range).reshape(visible.shape)
            restored[rows] = quantised(picture, dtype)
        return restored


def sizes(ir: np.ndarray, vis: np.ndarray) -> str:
    """Both sizes, for messages."""
    return f"IR is {ir.shape[0]}x{ir.shape[1]} and VIS is {vis.shape[0]}x{vis.shape[1]} (height x width)"


def open_sources(ir: ImageInput, vis: ImageInput) -> Sources:
    """Reads and checks a pair of paths, PIL images or arrays.

    Raises:
        ImageError: a file can't be read.
        ValueError: sizes differ, or an array's shape, dtype or range is not as `Fuser.fuse` says.
    """
    visible = as_array(vis)
    return Sources(_infrared(ir), gray(visible), visible)


def open_pair(pair: Pair) -> Sources:
    """`open_sources` of a pair of files, the chroma from where the pair says.

    Raises:
        ImageError, ValueError: as `open_sources`.
    """
    sources = open_sources(pair.ir, pair.vis)
    return sources if pair.color is None else dataclasses.replace(sources, visible=as_array(pair.color))


def _infrared(picture: ImageInput) -> np.ndarray:
    """Infrared luminance, float32 (H, W) in [0, 1]: of a file all 16 bits, where it has them."""
    if not isinstance(picture, str | os.PathLike):
        array = as_array(picture)
    else:
        array = read_raw(Path(picture))
        if array.dtype.name not in _LEVELS:
            raise ImageError(Path(picture), "32-bit values have no defined range; scale them (data.read_thermal) first")
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        # Rounded as in a file, so that grey stored in three channels is that grey exactly.
        array = np.concatenate([to_gray(array[rows]) for rows in _strips(len(array))])
    return gray(array)


def as_array(picture: ImageInput) -> np.ndarray:
    """The pixels of a picture, (H, W), (H, W, 1) or (H, W, 3), of the dtype they have."""
    if isinstance(picture, Image.Image):
        # Infrared of 16 bits keeps them, as from a file.
        deep = picture.mode.startswith("I;16")
        array = np.asarray(upright(picture)).astype(np.uint16) if deep else eight_bit(picture, Path("PIL image"))
    elif isinstance(picture, str | os.PathLike):
        array = read_image(Path(picture))
    else:
        array = np.asarray(picture)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(f"a picture must be (H, W), (H, W, 1) or (H, W, 3), got shape {array.shape}")
    return array


def unit(array: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    if (levels := _LEVELS.get(array.dtype.name)) is not None:
        return array.astype(np.float32) / np.float32(levels)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"a picture must be uint8, uint16 or floating point in [0, 1], got {array.dtype}")
    # Written so that NaN fails it, too.
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"a floating point picture must lie in [0, 1], got [{array.min()}, {array.max()}]")
    return array.astype(np.float32)


def gray(picture: np.ndarray) -> np.ndarray:
    """Luminance of a picture as float32 (H, W) in [0, 1]."""
    if picture.ndim == 2 or picture.shape[2] == 1:
        return unit(picture.reshape(picture.shape[:2]))
    plane = np.empty(picture.shape[:2], np.float32)
    for rows in _strips(len(picture)):
        plane[rows] = luminance(unit(picture[rows]))
    return plane


def _strips(height: int) -> Iterator[slice]:
    """Rows to be worked on at once: float copies of a whole large picture would be most of the memory it takes."""
    return (slice(top, min(top + _STRIP, height)) for top in range(0, height, _STRIP))


def check_output_type(dtype: str) -> None:
    """Raises ValueError, naming the choices, when `dtype` is no `OutputType`."""
    if dtype not in get_args(OutputType):
        raise ValueError(f"dtype must be one of {', '.join(get_args(OutputType))}; got {dtype!r}")


def quantised(picture: np.ndarray, dtype: OutputType) -> np.ndarray:
    """A picture in [0, 1] as the dtype asked for; integers are rounded half to even.

    Raises:
        ValueError: a value is NaN, which is what unusable weights give.
    """
    if np.isnan(picture).any():
        raise ValueError("the fused picture has values that are no numbers (NaN): the weights are not usable")
    if dtype == "float32":
        return picture.astype(np.float32)
    if dtype == "uint16":
        return np.rint(np.clip(picture, 0, 1) * 65535).astype(np.uint16)
    return to_uint8(picture)
