"""Fusing pictures with a trained network."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from rpfnet_jax.inference import engine, memory
from rpfnet_jax.inference.base import PictureFuser
from rpfnet_jax.inference.pictures import OutputType, Picture, open_sources
from rpfnet_jax.inference.tiling import TiledFuser
from rpfnet_jax.model import ModelConfig, NormMode, RPFNet, StageFeatures, check_shapes, fold
from rpfnet_jax.tone import Exposure
from rpfnet_jax.weights import FusionDefaults, Weights, load_weights

LARGEST_BATCH = 16


class Fuser(PictureFuser):
    """A trained RPFNet that takes pictures.

    Example:
        >>> net = rpfnet_jax.load("RUNS/flir/weights.safetensors")
        >>> fused = net.fuse("ir/01.png", "vis/01.png")

    A network without norms (`config.norm` is `none`) computes the same in every norm mode.

    Attributes:
        model: the Linen module.
        variables: its parameters and running statistics, on the device.
        defaults: norm mode and colour range in use where a call does not say otherwise.
        weights: what was loaded, with the configuration of its training.
        on_compile: called with the program before one is compiled, which happens once per shape; may be set.
    """

    def __init__(self, weights: Weights, norm: NormMode | None = None, adapt: float | None = None):
        """Uses the weights' own defaults where `norm` (see `Statistics`) and `adapt` are None.

        Raises:
            ValueError: `norm` is `batch` or unknown, or `adapt` is not in [0, 1] or has no effect.
        """
        self.weights = weights
        self.model = RPFNet(weights.model)
        self.defaults: FusionDefaults = weights.defaults
        self.defaults = self._overridden(norm, adapt)
        self.variables = jax.device_put(weights.variables)
        self.on_compile: Callable[[engine.Program], None] | None = None
        # Not a cached property: a copy made by `using` would fold again.
        self._folded = functools.cache(functools.partial(_fold, self.config, self.variables))

    @property
    def config(self) -> ModelConfig:
        """The network's configuration."""
        return self.model.config

    @property
    def color_range(self) -> Any:  # type: ignore[override]
        """Of `defaults`."""
        return self.defaults.color_range

    def using(self, norm: NormMode | None = None, adapt: float | None = None, color_range: str | None = None) -> Fuser:
        """The same network with other defaults; parameters and compiled functions are shared.

        Raises:
            ValueError: an impossible value, or an `adapt` without effect.
        """
        other = copy.copy(self)
        other.defaults = self._overridden(norm, adapt, color_range)
        return other

    def _overridden(self, norm: str | None, adapt: float | None, color_range: str | None = None) -> FusionDefaults:
        if adapt is not None and self.config.norm == "none":
            raise ValueError("adapt has no effect on these weights: their network has no norms (docs/weights.md)")
        return self.defaults.override(norm, adapt, color_range)

    def in_tiles(self, tile: int = 512, overlap: int | None = None) -> TiledFuser:
        """The same network, in `running` mode, tile by tile: for pictures that do not fit into memory as a whole.

        Tiles share `overlap` pixels; None: 64, or a quarter of a tile if that is less.

        Raises:
            ValueError: an impossible `tile` or `overlap`.
        """
        return TiledFuser(self.using(norm="running"), tile, min(64, tile // 4) if overlap is None else overlap)

    def fuse(
        self,
        ir: Picture,
        vis: Picture,
        norm: NormMode | None = None,
        adapt: float | None = None,
        *,
        dtype: OutputType = "uint8",
    ) -> Shaped[np.ndarray, "h w *channels"]:
        """`PictureFuser.fuse`, which describes pictures, dtypes and errors; `norm` and `adapt` are for this call."""
        return PictureFuser.fuse(self.using(norm, adapt), ir, vis, dtype=dtype)

    def fuse_luminance(
        self,
        ir: Float[Any, "b h w 1"],
        vis_y: Float[Any, "b h w 1"],
        norm: NormMode | None = None,
        adapt: float | None = None,
    ) -> Float[Array, "b h w 1"]:
        """Jitted batch inference: fused luminance in (0, 1) of float32 images in [0, 1]; compiled once per shape.

        Raises:
            ValueError: shapes differ, are not (B, H, W, 1), a side is shorter than 16, or a dtype is not float32;
                impossible `norm` or `adapt`.
            MemoryError: the batch will not fit.
        """
        return self.using(norm, adapt)._run(ir, vis_y)

    def features(
        self, ir: Picture, vis: Picture, norm: NormMode | None = None, adapt: float | None = None
    ) -> tuple[StageFeatures, ...]:
        """The feature maps of every stage for one pair (Figure 3): N tuples of (1, H, W, C) arrays."""
        sources = open_sources(ir, vis)
        images = sources.ir[None, ..., None], sources.vis_y[None, ..., None]
        return self.using(norm, adapt)._run(*images, features=True)[1]

    def start(
        self,
        ir: Shaped[np.ndarray, "b h w"],
        vis_y: Shaped[np.ndarray, "b h w"],
        exposure: Exposure | None = None,
    ) -> Array:
        """See `PictureFuser.start`; `exposure` as in `RPFNet`."""
        return self._run(ir[..., None], vis_y[..., None], exposure=exposure)[..., 0]

    def measure(self, ir: Any, vis_y: Any) -> Exposure | None:
        """What the network asks of whole pictures, (B, H, W, 1); see `engine.needed_exposure`."""
        return engine.needed_exposure(self.config, ir, vis_y)

    def batch_size(self, shape: tuple[int, int]) -> int:
        """One on a CPU, which gains nothing from more; elsewhere as many as fit into half of the free memory."""
        if jax.default_backend() == "cpu":
            return 1
        return min(LARGEST_BATCH, memory.largest_batch(self.config, *shape))

    def compile(self, shape: tuple[int, ...]) -> jax.stages.Compiled:
        """Compiles for batches of (B, H, W, 1) ahead of the first; what is returned can be asked for its costs.

        Raises:
            ValueError: not a shape of luminances, or a side is shorter than 16.
            MemoryError: such a batch will not fit.
        """
        check_shapes(shape, shape)
        return self._compiled(shape)[0]

    def _compiled(self, shape: tuple[int, ...], features: bool = False) -> tuple[Any, dict[str, Any]]:
        """The compiled program for a shape, and the variables that it takes."""
        config, variables = self.config, self.variables
        # Without norms every mode is the same program.
        norm = config.norm_mode(self.defaults.norm)
        if norm == "running" and not features:
            norm, (config, variables) = "folded", self._folded()
        memory.check(config, shape, features)
        program = engine.Program(config, norm, shape, features)
        return engine.compiled(program, variables, self.on_compile), variables

    def _run(self, ir: Any, vis_y: Any, features: bool = False, exposure: Exposure | None = None) -> Any:
        check_shapes(ir.shape, vis_y.shape)
        if {ir.dtype, vis_y.dtype} != {np.dtype(np.float32)}:
            raise ValueError(f"IR and VIS_Y must be float32 in [0, 1], got {ir.dtype} and {vis_y.dtype}")
        function, variables = self._compiled(tuple(ir.shape), features)
        if exposure is None:
            exposure = self.measure(ir, vis_y)
        return function(variables, ir, vis_y, jnp.float32(self.defaults.adapt), exposure)


def _fold(config: ModelConfig, variables: dict[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    """The network with its running statistics folded into the convolutions, on the device."""
    folded_config, folded = fold(config, variables)
    return folded_config, jax.device_put(folded)


def load(path: str | os.PathLike[str] | None = None, norm: NormMode | None = None, adapt: float | None = None) -> Fuser:
    """Loads trained weights, ready to fuse.

    Args:
        path: the name of shipped weights (`rpfnet_jax.weights.shipped_names`; None: the best of them); a `.safetensors`
            file that training wrote; the workdir of a training run; or the authors' network (`.pth`, module or state
            dict, or safetensors under torch's names), which is read without torch and without executing anything in it.
        norm: `image`, `running` or `adaptive` instead of the weights' own default.
        adapt: weight of the image's own statistics in `adaptive` mode, in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file is not usable.
    """
    return Fuser(load_weights(path), norm, adapt)
