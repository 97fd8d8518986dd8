"""A trained network that fuses images, as a whole or in tiles; the classical methods likewise; the cost of fusing."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from rpfnet_jax import native
from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.color import ColorRange
from rpfnet_jax.inference import engine
from rpfnet_jax.inference.base import ImageFuser
from rpfnet_jax.inference.sources import ImageInput, open_sources
from rpfnet_jax.inference.tiles import fuse_in_tiles
from rpfnet_jax.model import MIN_SIDE, ModelConfig, NormMode, RPFNet, RuntimeOptions, StageFeatures, check_shapes, fold
from rpfnet_jax.ops.convolution import Precision
from rpfnet_jax.ops.tone import Exposure
from rpfnet_jax.runtime import start_backend
from rpfnet_jax.weights import FusionDefaults, Weights, load_weights

_LARGEST_BATCH = 16


def load(
    path: str | os.PathLike[str] | None = None,
    norm: NormMode | None = None,
    adapt: float | None = None,
    precision: Precision = "float32",
) -> Fuser:
    """Loads trained weights, ready to fuse.

    Args:
        path: the name of shipped weights (None: the best of them), a `.safetensors` file, the workdir of a training
            run, or the authors' `.pth` file; see `rpfnet_jax.weights.load_weights`.
        norm: `image`, `running` or `adaptive` instead of the weights' own default.
        adapt: weight of the image's own statistics in `adaptive` mode, in [0, 1].
        precision: rounding of what the convolutions multiply; `tf32` is faster on some GPUs, see docs/performance.md.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file is not usable.
        ValueError: impossible `norm`, `adapt` or `precision`.
    """
    return Fuser(load_weights(path), norm, adapt, precision)


class Fuser(ImageFuser):
    """A trained RPFNet that takes images.

    A network without norms (`config.norm` is `none`) computes the same in every norm mode. A Fuser can be pickled, and
    so be sent to another process: weights and defaults travel, compiled functions and `on_compile` do not.

    Example:
        >>> net = rpfnet_jax.load()
        >>> fused = net.fuse("ir.png", "vis.png")

    Attributes:
        model: the Linen module.
        defaults: norm mode and colour range where a call does not say otherwise.
        weights: the loaded weights, with the configuration of their training.
        precision: see `RuntimeOptions`.
        on_compile: called with the `Program` before one is compiled, which happens once per shape; may be set.
    """

    def __init__(
        self,
        weights: Weights,
        norm: NormMode | None = None,
        adapt: float | None = None,
        precision: Precision = "float32",
    ):
        """Uses the weights' own defaults where `norm` (see `NormContext`) and `adapt` are None.

        Raises:
            ValueError: `norm` is `batch` or unknown, `adapt` is not in [0, 1] or has no effect, or `precision` is
                unknown.
            BackendError: JAX can't compute in this process.
        """
        start_backend()
        self.__setstate__((weights, weights.defaults, RuntimeOptions(precision=precision).precision))
        self.defaults = self._override(norm, adapt)

    def __getstate__(self) -> tuple[Weights, FusionDefaults, Precision]:
        weights = dataclasses.replace(self.weights, variables=jax.device_get(self.weights.variables))
        return weights, self.defaults, self.precision

    def __setstate__(self, state: tuple[Weights, FusionDefaults, Precision]) -> None:
        weights, self.defaults, self.precision = state
        self.weights, self.model = weights, RPFNet(weights.model)
        self.on_compile: Callable[[engine.Program], None] | None = None
        # Of each size of image: the largest batch so far.
        self._largest: dict[tuple[int, ...], int] = {}
        # Called at the first use: an error of JAX while a worker of `multiprocessing` unpickles its task would leave
        # the pool waiting for ever. Not cached properties: the copies that `using` makes share what these return.
        self._on_device = on_device = functools.cache(functools.partial(_on_device, weights.variables))
        self._folded = functools.cache(lambda: _fold(weights.model, on_device()))

    @property
    def variables(self) -> dict[str, Any]:
        """The parameters and running statistics, on the device."""
        start_backend()
        return self._on_device()

    @property
    def config(self) -> ModelConfig:
        """The network's configuration."""
        return self.model.config

    @property
    def color_range(self) -> Any:  # type: ignore[override]
        return self.defaults.color_range

    def using(self, norm: NormMode | None = None, adapt: float | None = None, color_range: str | None = None) -> Fuser:
        """Returns the same network with other defaults; parameters and compiled functions are shared.

        Raises:
            ValueError: an impossible value, or an `adapt` without effect.
        """
        if norm is adapt is color_range is None:
            return self
        other = object.__new__(type(self))
        vars(other).update(vars(self), defaults=self._override(norm, adapt, color_range))
        return other

    def _override(self, norm: str | None, adapt: float | None, color_range: str | None = None) -> FusionDefaults:
        if adapt is not None and self.config.norm == "none":
            raise ValueError("adapt has no effect on these weights: their network has no norms (docs/weights.md)")
        return self.defaults.override(norm, adapt, color_range)

    def in_tiles(self, tile: int = 512, overlap: int | None = None) -> TiledFuser:
        """Returns the same network in `running` mode, tile by tile: for images that do not fit into memory as a whole.

        Tiles share `overlap` pixels; None: 64, or a quarter of a tile if that is less.

        Raises:
            ValueError: an impossible `tile` or `overlap`.
        """
        return TiledFuser(self.using(norm="running"), tile, min(64, tile // 4) if overlap is None else overlap)

    def fuse(
        self,
        ir: ImageInput,
        vis: ImageInput,
        norm: NormMode | None = None,
        adapt: float | None = None,
        **options: Any,
    ) -> Shaped[np.ndarray, "h w *channels"]:
        """Fuses one registered pair; `norm` and `adapt` are for this call, and `ImageFuser.fuse` has the `options`."""
        return ImageFuser.fuse(self.using(norm, adapt), ir, vis, **options)

    def fuse_luminance(
        self,
        ir: Float[Any, "b h w 1"],
        vis_y: Float[Any, "b h w 1"],
        norm: NormMode | None = None,
        adapt: float | None = None,
        exposure: Exposure | None = None,
    ) -> Float[Array, "b h w 1"]:
        """Fuses a batch of float32 luminances in [0, 1] to luminances in (0, 1); compiled once per shape.

        `norm` and `adapt` are for this call; `exposure` is that of the whole images where these are tiles.

        Raises:
            ValueError: shapes differ, are not (B, H, W, 1), a side is shorter than 16, or a dtype is not float32;
                impossible `norm` or `adapt`.
            MemoryError: the batch will not fit.
        """
        check_shapes(ir.shape, vis_y.shape)
        if {ir.dtype, vis_y.dtype} != {np.dtype(np.float32)}:
            raise ValueError(f"IR and VIS_Y must be float32 in [0, 1], got {ir.dtype} and {vis_y.dtype}")
        net, count = self.using(norm, adapt), len(ir)
        exposure = engine.exposure_for(self.config, ir, vis_y) if exposure is None else exposure
        missing = self._missing(ir.shape)
        if missing:
            ir, vis_y, exposure = jax.tree.map(
                lambda x: np.pad(x, [(0, missing), *[(0, 0)] * (x.ndim - 1)], mode="edge"), (ir, vis_y, exposure)
            )
        network, variables = net._program(tuple(ir.shape))
        fused = network(variables, ir, vis_y, jnp.float32(net.defaults.adapt), exposure)
        return fused[:count] if missing else fused

    def _missing(self, shape: tuple[int, ...]) -> int:
        """Counts the images by which a batch on an accelerator is filled up to an earlier one of the same size.

        The last images of a size would otherwise cost a compilation. A CPU fuses one at a time.
        """
        if jax.default_backend() == "cpu":
            return 0
        self._largest[shape[1:3]] = max(self._largest.get(shape[1:3], 0), shape[0])
        return self._largest[shape[1:3]] - shape[0]

    def features(
        self, ir: ImageInput, vis: ImageInput, norm: NormMode | None = None, adapt: float | None = None
    ) -> tuple[StageFeatures, ...]:
        """Computes the feature maps of every stage for one pair (Figure 3): N tuples of (1, H, W, C) arrays."""
        sources, net = open_sources(ir, vis), self.using(norm, adapt)
        images = sources.ir[None, ..., None], sources.vis_y[None, ..., None]
        network, variables = net._program(images[0].shape, features=True)
        exposure = engine.exposure_for(self.config, *images)
        return network(variables, *images, jnp.float32(net.defaults.adapt), exposure)[1]

    def batch_size(self, shape: tuple[int, int]) -> int:
        """Returns 1 on a CPU, which gains nothing from more; elsewhere as many as fit into half of the free memory."""
        if jax.default_backend() == "cpu":
            return 1
        # The other half is for the results before and for what cuDNN and cuFFT take beside the program.
        half = (engine.available() or 0) // 2
        return max(1, min(_LARGEST_BATCH, half // engine.memory_needed(self.config, (1, *shape, 1))))

    def compile(self, shape: tuple[int, ...]) -> jax.stages.Compiled:
        """Compiles for batches of (B, H, W, 1) ahead of the first; the result can be asked for its costs.

        Raises:
            ValueError: not a shape of luminances, or a side is shorter than 16; or JAX does not compile.
            MemoryError: such a batch will not fit.
        """
        check_shapes(shape, shape)
        return engine.compile_program(self._described(shape)[0])

    def _program(self, shape: tuple[int, ...], features: bool = False) -> tuple[Callable[..., Any], dict[str, Any]]:
        """Returns the network for a shape, compiled if JAX compiles at all, and the variables that it takes."""
        program, variables = self._described(shape, features)
        return (engine.compile_program if program.jit else engine.function_of)(program), variables

    def _described(self, shape: tuple[int, ...], features: bool = False) -> tuple[engine.Program, dict[str, Any]]:
        config, variables = self.config, self.variables
        # Without norms every mode is the same program.
        norm = config.norm_mode(self.defaults.norm)
        if norm == "running" and not features:
            norm, (config, variables) = "folded", self._folded()
        engine.check_memory(config, shape, features)
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
        program = engine.Program(config, norm, shape, features, abstract, self.on_compile, precision=self.precision)
        return program, variables


def _on_device(variables: dict[str, Any]) -> dict[str, Any]:
    """Puts variables on the device, without empty collections: a network without norms has no statistics.

    As training has an empty one for them, all weights of one network thus share compiled functions.
    """
    return jax.device_put({name: tree for name, tree in variables.items() if tree})


def _fold(config: ModelConfig, variables: dict[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    """Folds the running statistics into the convolutions, and puts the result on the device."""
    folded_config, folded = fold(config, variables)
    return folded_config, jax.device_put(folded)


class TiledFuser(ImageFuser):
    """A network applied tile by tile.

    Close to the result for the whole image but not equal to it: the FDFM transforms each tile by itself. Needs
    statistics that do not depend on the tile, so `running` mode.

    Args:
        net: a network in `running` mode.
        tile, overlap: see `fuse_in_tiles`.

    Raises:
        ValueError: `net` has another norm mode, the tile is smaller than 16, or the overlap not in [0, tile / 2).
    """

    def __init__(self, net: Fuser, tile: int, overlap: int):
        if net.defaults.norm != "running":
            raise ValueError(f"tiles need norm=running: {net.defaults.norm} takes statistics of the whole image")
        if tile < MIN_SIDE:
            raise ValueError(f"tile must be at least {MIN_SIDE}, got {tile}")
        if not 0 <= overlap < tile / 2:
            raise ValueError(f"overlap must be at least 0 and less than half of tile={tile}, got {overlap}")
        self.net, self.tile, self.overlap = net, tile, overlap
        self.color_range = net.color_range

    def fuse_luminance(self, ir: Float[Any, "b h w 1"], vis_y: Float[Any, "b h w 1"]) -> Float[np.ndarray, "b h w 1"]:
        """Fuses a batch of float32 luminances in [0, 1], one image after the other."""
        return np.stack([self._fuse_image(*pair) for pair in zip(ir, vis_y, strict=True)])[..., None]

    def _fuse_image(self, ir: Float[Any, "h w 1"], vis_y: Float[Any, "h w 1"]) -> Float[np.ndarray, "h w"]:
        exposure = engine.exposure_for(self.net.config, ir[None], vis_y[None])
        sides = min(self.tile, ir.shape[0]), min(self.tile, ir.shape[1])
        size = self.net.batch_size(sides)

        def fuse(tiles: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
            tiles, running = iter(tiles), None
            while batch := list(itertools.islice(tiles, size)):
                ir, vis_y = (np.stack(side)[..., None] for side in zip(*batch, strict=True))
                each = jax.tree.map(lambda value, count=len(batch): np.repeat(value, count), exposure)
                fused = self.net.fuse_luminance(ir, vis_y, exposure=each)
                # The device has its next tiles before these are waited for.
                if running is not None:
                    yield from np.asarray(running)[..., 0]
                running = fused
            yield from np.asarray(running)[..., 0]

        return fuse_in_tiles(fuse, ir[..., 0], vis_y[..., 0], self.tile, self.overlap)


class BaselineFuser(ImageFuser):
    """A method of `rpfnet_jax.baselines` that takes images.

    Args:
        method: its name there.
        color_range: see `ImageFuser`.

    Raises:
        ValueError: there is no such method; the message lists them.
    """

    def __init__(self, method: str, color_range: ColorRange = "full"):
        if method not in BASELINES:
            raise ValueError(f"method must be one of {', '.join(BASELINES)}; got {method!r}")
        self.method = BASELINES[method]
        self.color_range = color_range

    def fuse_luminance(self, ir: Float[Any, "b h w 1"], vis_y: Float[Any, "b h w 1"]) -> Float[np.ndarray, "b h w 1"]:
        """Fuses a batch of float32 luminances in [0, 1], one image after the other."""
        return np.stack([self.method(*pair) for pair in zip(ir[..., 0], vis_y[..., 0], strict=True)])[..., None]


class Cost(NamedTuple):
    """The cost of fusing one image.

    XLA counts 8·floor(log2 H)·floor(log2 W) operations per element that goes into a two-dimensional FFT: it multiplies
    logarithms where a fast transform adds them (at 640x480: 72 against 17). The transforms are therefore counted
    apart, with 2.5·n·log2(n) for a real transform of n = H·W points, the usual figure (Johnson and Frigo 2007).

    Attributes:
        parameters: trained numbers, without running statistics.
        flops: operations of everything but the transforms, by XLA: convolutions (2 per multiply-add), norms and
            activations.
        fft_flops: those of the transforms, by the formula.
        fft_flops_xla: those of the transforms, by XLA.
    """

    parameters: int
    flops: float
    fft_flops: float
    fft_flops_xla: float

    @property
    def gflops(self) -> float:
        """All operations, in billions."""
        return (self.flops + self.fft_flops) / 1e9


def fusion_cost(net: Fuser, height: int, width: int) -> Cost:
    """Counts the operations for one image in the norm mode of `net`; compiles the network for that size.

    `running` mode has its norms folded into the convolutions and so fewer operations.

    Raises:
        ValueError: a side is shorter than 16, JAX does not compile, or the backend does not count operations.
        MemoryError: such an image will not fit.
    """
    config = net.config
    check_shapes(*[(1, height, width, 1)] * 2)
    program, _ = net._described((1, height, width, 1))
    # XLA counts no operations of native code.
    with native.without_native_code():
        total = _flops(engine.lower_program(program).compile())
    transforms = config.stages * config.channels
    image = jax.ShapeDtypeStruct((transforms, height, width), jnp.float32)
    spectrum = jax.ShapeDtypeStruct((transforms, height, width // 2 + 1), jnp.complex64)
    forward = jax.jit(lambda x: jax.lax.fft(x, "RFFT", (height, width))).lower(image).compile()
    inverse = jax.jit(lambda z: jax.lax.fft(z, "IRFFT", (height, width))).lower(spectrum).compile()
    counted = _flops(forward) + _flops(inverse)
    points = height * width
    return Cost(
        sum(leaf.size for leaf in jax.tree.leaves(net.variables["params"])),
        total - counted,
        2 * transforms * 2.5 * points * math.log2(points),
        counted,
    )


def _flops(program: Any) -> float:
    costs = program.cost_analysis()
    if not costs or "flops" not in costs:
        raise ValueError(f"this backend ({jax.default_backend()}) does not count operations; JAX_PLATFORMS=cpu does")
    return float(costs["flops"])
