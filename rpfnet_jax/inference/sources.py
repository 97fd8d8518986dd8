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

from rpfnet_jax.data.checks import warn_of_input
from rpfnet_jax.data.color import luminance, restore_color, restore_gray, to_uint8
from rpfnet_jax.data.images import from_pillow, read_stored
from rpfnet_jax.data.metadata import Metadata
from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.pixels import StoredImage
from rpfnet_jax.data.thermal import Scalings, ThermalScaling, scaled, scaled_gray

OutputType = Literal["uint8", "uint16", "float32"]
# Not "h w *channels": the two images of a call may differ in channels, and a difference in size has its own error.
ImageInput = str | os.PathLike[str] | Image.Image | StoredImage | Shaped[np.ndarray, "..."] | Shaped[Array, "..."]

_LEVELS = {"uint8": 255, "uint16": 65535}
_STRIP = 256


@dataclasses.dataclass(frozen=True)
class Sources:
    """One registered pair, ready for the network.

    Attributes:
        ir: infrared luminance, float32 (H, W) in [0, 1].
        vis_y: luminance of the visible image, likewise.
        visible: the image that gives the result its shape and chroma, in general the visible one: (H, W), (H, W, 1) or
            (H, W, 3), uint8, uint16 or float in [0, 1].
        alpha: opacity of the visible image, (H, W) of such a dtype, which the result takes over; None: it has none.
        metadata: those of the visible image's file, for the file of the result.
    """

    ir: np.ndarray
    vis_y: np.ndarray
    visible: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = Metadata()

    def __post_init__(self) -> None:
        if self.ir.shape != self.vis_y.shape:
            raise ValueError(f"{sizes(self.ir, self.vis_y)}; they must be registered and of the same size")

    def restore(self, fused: Float32[np.ndarray, "h w"], color_range: Any, dtype: OutputType) -> np.ndarray:
        """Makes an image of the kind of `visible` from a fused luminance, with the chroma of `visible` if it has one.

        Integers are rounded half to even. An alpha channel is appended as it is.

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
        return restored if self.alpha is None else np.dstack([restored, quantised(unit(self.alpha), dtype)])


def sizes(ir: np.ndarray, vis: np.ndarray) -> str:
    """Describes both sizes, for messages."""
    return f"IR is {ir.shape[0]}x{ir.shape[1]} and VIS is {vis.shape[0]}x{vis.shape[1]} (height x width)"


def stack_sources(batch: Sequence[Sources]) -> tuple[Float32[np.ndarray, "b h w 1"], Float32[np.ndarray, "b h w 1"]]:
    """Stacks the luminances of pairs of one size: infrared and visible."""
    return np.stack([pair.ir for pair in batch])[..., None], np.stack([pair.vis_y for pair in batch])[..., None]


def open_sources(ir: ImageInput, vis: ImageInput, scaling: Scalings = Scalings()) -> Sources:
    """Reads and checks a pair of paths, PIL images or arrays, and warns where they are hardly what was meant.

    Raises:
        ImageError: a file can't be read.
        ValueError: sizes differ, or an array's shape, dtype or range is not as `ImageFuser.fuse` says.
    """
    visible = open_visible(stored_image(vis), scaling.vis)
    return Sources(open_infrared(stored_image(ir), scaling.ir)[0], **visible)


def open_pair(pair: Pair) -> Sources:
    """Does `open_sources` for a pair of files, and takes the chroma from the file that the pair names for it."""
    visible = open_visible(read_stored(pair.vis), pair.scaling.vis)
    # Colours of the infrared side that the result takes over are meant to be there.
    ir, _ = open_infrared(read_stored(pair.ir), pair.scaling.ir, false_colors=pair.color is None)
    if pair.color is not None:
        scaling = pair.scaling.ir if pair.color == pair.ir else pair.scaling.vis
        visible["visible"] = scaled(read_stored(pair.color), scaling).full_range()
    return Sources(ir, **visible)


def open_infrared(
    image: StoredImage, scaling: ThermalScaling, false_colors: bool = True
) -> tuple[Float32[np.ndarray, "h w"], str]:
    """Returns the luminance of an infrared image and a line about its scaling, and warns as `warn_of_input` does."""
    warn_of_input(image, "ir", scaling.mode != "full", false_colors)
    return scaled_gray(image, scaling)


def open_visible(image: StoredImage, scaling: ThermalScaling) -> dict[str, Any]:
    """Returns what `Sources` takes of a visible image, and warns as `warn_of_input` does."""
    warn_of_input(image, "vis", scaling.mode != "full")
    visible = scaled(image, scaling).full_range()
    return {"vis_y": gray(visible), "visible": visible, "alpha": image.alpha, "metadata": image.metadata}


def stored_image(image: ImageInput) -> StoredImage:
    """Returns the image that a file, a PIL image or an array is, without scaling."""
    if isinstance(image, StoredImage):
        return image
    if isinstance(image, Image.Image):
        return from_pillow(image)
    return read_stored(Path(image)) if isinstance(image, str | os.PathLike) else StoredImage.of(np.asarray(image))


def unit(array: np.ndarray) -> Float32[np.ndarray, "..."]:
    """Converts pixels in the full range of their dtype to float32 in [0, 1]."""
    levels = _LEVELS.get(array.dtype.name)
    return array.astype(np.float32) if levels is None else array.astype(np.float32) / np.float32(levels)


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
