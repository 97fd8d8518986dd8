"""Fusing pictures with a trained network."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped, UInt8

from rpfnet_jax.data.color import luminance, restore_color, restore_gray, to_uint8
from rpfnet_jax.data.images import read_image
from rpfnet_jax.model import NormMode, RPFNet, StageFeatures
from rpfnet_jax.weights import FusionDefaults, Weights, load_weights

OutputType = Literal["uint8", "float32"]
# Not "h w *channels": the two pictures of a call may differ in channels, and what differs in size gets its own error.
Picture = str | os.PathLike[str] | Shaped[np.ndarray, "..."]


# At module level, so that all Fusers of one architecture share the compiled functions, one per shape.
@functools.partial(jax.jit, static_argnames=("model", "norm", "features"))
def _apply(
    model: RPFNet, variables: dict, ir: Array, vis_y: Array, norm: NormMode, adapt: Array, features: bool = False
) -> Any:
    return model.apply(variables, ir, vis_y, norm=norm, adapt=adapt, features=features)


class Fuser:
    """A trained RPFNet that takes pictures.

    Example:
        >>> net = rpfnet_jax.load("RUNS/flir/weights.safetensors")
        >>> fused = net.fuse("ir/01.png", "vis/01.png")

    Attributes:
        model: the Linen module.
        variables: its parameters and running statistics, on the device.
        defaults: norm mode and colour range in use where a call does not say otherwise.
        weights: what was loaded, with the configuration of its training.
    """

    def __init__(self, weights: Weights, norm: NormMode | None = None, adapt: float | None = None):
        """Uses the weights' own defaults where `norm` (see `Statistics`) and `adapt` are None.

        Raises:
            ValueError: `norm` is `batch` or unknown, or `adapt` is not in [0, 1] or has no effect.
        """
        self.defaults = weights.defaults.override(norm, adapt)
        self.weights = weights
        self.model = RPFNet(weights.model)
        self.variables = jax.device_put(weights.variables)

    def fuse_luminance(
        self,
        ir: Float[Any, "b h w 1"],
        vis_y: Float[Any, "b h w 1"],
        norm: NormMode | None = None,
        adapt: float | None = None,
    ) -> Float[Array, "b h w 1"]:
        """Jitted batch inference: fused luminance in (0, 1) of float32 images in [0, 1]; compiled once per shape.

        `norm` and `adapt` replace the defaults for this call.

        Raises:
            ValueError: shapes differ, are not (B, H, W, 1), or a side is shorter than 16; impossible `norm` or `adapt`.
        """
        return self._run(ir, vis_y, self.defaults.override(norm, adapt))

    def fuse(
        self,
        ir: Picture,
        vis: Picture,
        norm: NormMode | None = None,
        adapt: float | None = None,
        dtype: OutputType = "uint8",
    ) -> UInt8[np.ndarray, "h w *channels"] | Float32[np.ndarray, "h w *channels"]:
        """Fuses one registered pair at its own size.

        Args:
            ir: infrared picture: a path, or an array (H, W), (H, W, 1) or (H, W, 3), uint8 or float in [0, 1]. Of a
                colour picture the luminance is used.
            vis: visible picture, likewise, of the same height and width.
            norm: norm mode for this call instead of the default.
            adapt: weight of the image's own statistics in `adaptive` mode, for this call.
            dtype: `uint8`, or `float32` in [0, 1] without rounding to 8 bits.

        Returns:
            Shaped like `vis`: colour in, colour out (the fused luminance with VIS's chroma), grey in, grey out.

        Raises:
            ImageError: a file can't be read.
            ValueError: sizes differ, or an array's shape, dtype or range is not as above; impossible options.
        """
        if dtype not in get_args(OutputType):
            raise ValueError(f"dtype must be one of {', '.join(get_args(OutputType))}; got {dtype!r}")
        options = self.defaults.override(norm, adapt)
        visible = _as_float(vis)
        infrared = _luminance(_as_float(ir))
        vis_y = _luminance(visible)
        if infrared.shape != vis_y.shape:
            raise ValueError(
                f"IR is {infrared.shape[0]}x{infrared.shape[1]} and VIS is {vis_y.shape[0]}x{vis_y.shape[1]} "
                "(height x width); they must be registered and of the same size"
            )
        fused = np.asarray(self._run(infrared[None, ..., None], vis_y[None, ..., None], options))[0, ..., 0]
        color_range: Any = options.color_range
        if visible.ndim == 3 and visible.shape[2] == 3:
            restored = restore_color(fused, visible, color_range)
        else:
            restored = restore_gray(fused, color_range).reshape(visible.shape)
        return to_uint8(restored) if dtype == "uint8" else restored.astype(np.float32)

    def features(
        self, ir: Picture, vis: Picture, norm: NormMode | None = None, adapt: float | None = None
    ) -> tuple[StageFeatures, ...]:
        """The feature maps of every stage for one pair (Figure 3): N tuples of (1, H, W, C) arrays."""
        infrared, vis_y = (_luminance(_as_float(picture))[None, ..., None] for picture in (ir, vis))
        return self._run(infrared, vis_y, self.defaults.override(norm, adapt), features=True)[1]

    def _run(self, ir: Any, vis_y: Any, options: FusionDefaults, features: bool = False) -> Any:
        norm: Any = options.norm
        return _apply(self.model, self.variables, ir, vis_y, norm, jnp.float32(options.adapt), features)


def load(path: str | os.PathLike[str], norm: NormMode | None = None, adapt: float | None = None) -> Fuser:
    """Loads trained weights, ready to fuse.

    Args:
        path: a `.safetensors` file that training wrote, or the authors' network (`.pth`, module or state dict, or
            safetensors under torch's names), which is read without torch and without executing anything in it.
        norm: `image`, `running` or `adaptive` instead of the weights' own default.
        adapt: weight of the image's own statistics in `adaptive` mode, in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file is not usable.
    """
    return Fuser(load_weights(path), norm, adapt)


def _as_float(picture: Picture) -> np.ndarray:
    array = picture if isinstance(picture, np.ndarray) else read_image(Path(picture))
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(f"a picture must be (H, W), (H, W, 1) or (H, W, 3), got shape {array.shape}")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"a picture must be uint8 or floating point in [0, 1], got {array.dtype}")
    # Written so that NaN fails it, too.
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"a floating point picture must lie in [0, 1], got [{array.min()}, {array.max()}]")
    return array.astype(np.float32)


def _luminance(picture: np.ndarray) -> np.ndarray:
    if picture.ndim == 2:
        return picture
    return luminance(picture) if picture.shape[2] == 3 else picture[..., 0]
