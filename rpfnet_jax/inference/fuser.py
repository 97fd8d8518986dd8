"""What every way of fusing pictures offers: one pair, or many as they come."""

from __future__ import annotations

import abc
import copy
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped

from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.color import ColorRange
from rpfnet_jax.inference import engine
from rpfnet_jax.inference import engine as memory
from rpfnet_jax.inference.sources import ImageInput, OutputType, Sources, check_output_type, open_sources
from rpfnet_jax.inference.stream import Fused, Job, stream
from rpfnet_jax.model import MIN_SIDE, ModelConfig, NormMode, RPFNet, StageFeatures, check_shapes, fold
from rpfnet_jax.ops.tone import Exposure
from rpfnet_jax.weights import FusionDefaults, Weights, load_weights


class ImageFuser(abc.ABC):
    """Fuses luminances, and knows how to make pictures of them.

    Attributes:
        color_range: how the fused luminance takes the place of a visible picture's; see `FusionDefaults`.
    """

    color_range: ColorRange = "full"

    @abc.abstractmethod
    def start(self, ir: Shaped[np.ndarray, "b h w"], vis_y: Shaped[np.ndarray, "b h w"]) -> Any:
        """Starts fusing a batch of float32 luminances in [0, 1]; `np.asarray` waits for the result, (B, H, W)."""

    def batch_size(self, shape: tuple[int, int]) -> int:
        """Pictures of (height, width) that are worth fusing at once."""
        del shape
        return 1

    def fuse(
        self, ir: ImageInput, vis: ImageInput, *, dtype: OutputType = "uint8"
    ) -> Shaped[np.ndarray, "h w *channels"]:
        """Fuses one registered pair at its own size.

        Args:
            ir: infrared picture: a path, a PIL image, or an array (H, W), (H, W, 1) or (H, W, 3), uint8, uint16 or
                float in [0, 1]. Of a colour picture the luminance is used.
            vis: visible picture, likewise, of the same height and width.
            dtype: `uint8`, `uint16`, or `float32` in [0, 1] without rounding.

        Returns:
            An array shaped like `vis`: colour in, colour out (fused luminance, VIS's chroma), grey in, grey out.

        Raises:
            ImageError: a file can't be read.
            ValueError: sizes differ, or an array's shape, dtype or range is not as above; impossible options.
            MemoryError: the pictures are too large for the memory that is free; `Fuser.in_tiles` is for them.
        """
        check_output_type(dtype)
        return self._compute([Job(0, None, open_sources(ir, vis))], dtype)()[0]

    def fuse_many(
        self,
        pairs: Iterable[Any],
        prepare: Callable[[Any], Sources] = lambda pair: open_sources(*pair),
        *,
        batch_size: int | None = None,
        dtype: OutputType = "uint8",
    ) -> Iterator[Fused]:
        """Fuses many pairs as they come, reading ahead in threads while the network computes.

        Consecutive pairs of one size share a batch; give them sorted by size. A pair that can't be read or fused does
        not stop the others.

        Args:
            pairs: (ir, vis) as for `fuse`, or whatever `prepare` takes; read as needed.
            prepare: opens one pair; called in threads.
            batch_size: pictures per batch; None: as many as are worth it.
            dtype: see `fuse`.

        Yields:
            A `Fused` for each pair, in order but for failures, which may come before pairs that were given earlier.
        """
        check_output_type(dtype)

        def size(shape: tuple[int, int]) -> int:
            return self.batch_size(shape) if batch_size is None else batch_size

        return stream(pairs, prepare, lambda jobs: self._compute(jobs, dtype), size)

    def _compute(self, jobs: Sequence[Job], dtype: OutputType) -> Callable[[], list[np.ndarray]]:
        """Starts a batch; what is returned waits for it and gives the pictures."""
        started = self.start(*(np.stack([getattr(job.sources, side) for job in jobs]) for side in ("ir", "vis_y")))

        def wait() -> list[np.ndarray]:
            pictures = zip(jobs, np.asarray(started), strict=True)
            return [job.sources.restore(picture, self.color_range, dtype) for job, picture in pictures]

        return wait


FuseTile = Callable[[np.ndarray, np.ndarray], np.ndarray]


class TiledFuser(ImageFuser):
    """A network applied tile by tile, for pictures that do not fit into memory as a whole.

    Close to what the network makes of the whole picture and not equal: the FDFM transforms each tile by itself. Needs
    statistics that do not depend on the tile, so `running` mode.

    Args:
        net: a `Fuser` in `running` mode.
        tile: side of the tiles in pixels; a picture with a shorter side has tiles as long as that.
        overlap: pixels that neighbours share, less than half a tile.

    Raises:
        ValueError: `net` has another norm mode, the tile is smaller than 16, or the overlap not in [0, tile / 2).
    """

    def __init__(self, net: Any, tile: int, overlap: int):
        if net.defaults.norm != "running":
            raise ValueError(f"tiles need norm=running: {net.defaults.norm} takes statistics of the whole picture")
        if tile < MIN_SIDE:
            raise ValueError(f"tile must be at least {MIN_SIDE}, got {tile}")
        if not 0 <= overlap < tile / 2:
            raise ValueError(f"overlap must be at least 0 and less than half of tile={tile}, got {overlap}")
        self.net, self.tile, self.overlap = net, tile, overlap
        self.color_range = net.color_range

    def start(self, ir: Shaped[np.ndarray, "b h w"], vis_y: Shaped[np.ndarray, "b h w"]) -> np.ndarray:
        """See `ImageFuser.start`; does not return before the work is done."""

        def fuse_whole(whole_ir: np.ndarray, whole_vis: np.ndarray) -> np.ndarray:
            exposure = self.net.measure(whole_ir[None, ..., None], whole_vis[None, ..., None])

            def fuse(ir: np.ndarray, vis_y: np.ndarray) -> np.ndarray:
                return np.asarray(self.net.start(ir[None], vis_y[None], exposure))[0]

            return fuse_in_tiles(fuse, whole_ir, whole_vis, self.tile, self.overlap)

        return np.stack([fuse_whole(*pair) for pair in zip(ir, vis_y, strict=True)])


def fuse_in_tiles(
    fuse: FuseTile, ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"], tile: int, overlap: int
) -> Float32[np.ndarray, "h w"]:
    """Fuses tile by tile; all tiles have one size, so that one function is compiled.

    Where tiles overlap, their results are mixed with weights that fall linearly towards their edges; the outer edges of
    the picture keep full weight.

    Args:
        fuse: fuses one tile, (H, W) float32 each.
        ir: infrared luminance in [0, 1].
        vis_y: luminance of the visible picture, same size.
        tile: side of the tiles in pixels.
        overlap: pixels that neighbours share, less than half a tile.
    """
    height, width = ir.shape
    sides = min(tile, height), min(tile, width)
    fused = np.zeros((height, width), np.float32)
    # Strips of one row of tiles, so that no second picture-sized array of weights is needed.
    row_sum = np.zeros(height, np.float32)
    for top, row_ramp in _places(height, sides[0], overlap):
        row_sum[top : top + sides[0]] += row_ramp
    for top, row_ramp in _places(height, sides[0], overlap):
        rows = slice(top, top + sides[0])
        strip = np.zeros((sides[0], width), np.float32)
        column_sum = np.zeros(width, np.float32)
        for left, column_ramp in _places(width, sides[1], overlap):
            columns = slice(left, left + sides[1])
            strip[:, columns] += fuse(ir[rows, columns], vis_y[rows, columns]) * column_ramp
            column_sum[columns] += column_ramp
        strip /= column_sum
        fused[rows] += strip * (row_ramp / row_sum[rows])[:, None]
    return fused


def _places(length: int, side: int, overlap: int) -> Iterator[tuple[int, np.ndarray]]:
    """Start of each tile along one axis, and its weights."""
    step = max(side - overlap, 1)
    count = 1 if side >= length else -(-(length - side) // step) + 1
    # Spread evenly, so that no two tiles overlap much more than the others.
    for start in np.rint(np.linspace(0, length - side, count)).astype(int):
        distance = np.arange(side) + 0.5
        ramp = np.ones(side)
        if start > 0:
            ramp = np.minimum(ramp, distance / max(overlap, 1))
        if start + side < length:
            ramp = np.minimum(ramp, distance[::-1] / max(overlap, 1))
        yield int(start), ramp.astype(np.float32)


class BaselineFuser(ImageFuser):
    """A method of `rpfnet_jax.baselines` that takes pictures.

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

    def start(self, ir: Shaped[np.ndarray, "b h w"], vis_y: Shaped[np.ndarray, "b h w"]) -> np.ndarray:
        """See `ImageFuser.start`; does not return before the work is done."""
        return np.stack([self.method(*pair) for pair in zip(ir, vis_y, strict=True)])


LARGEST_BATCH = 16


class Fuser(ImageFuser):
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
        """Uses the weights' own defaults where `norm` (see `NormContext`) and `adapt` are None.

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
        ir: ImageInput,
        vis: ImageInput,
        norm: NormMode | None = None,
        adapt: float | None = None,
        *,
        dtype: OutputType = "uint8",
    ) -> Shaped[np.ndarray, "h w *channels"]:
        """`ImageFuser.fuse`, which describes pictures, dtypes and errors; `norm` and `adapt` are for this call."""
        return ImageFuser.fuse(self.using(norm, adapt), ir, vis, dtype=dtype)

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
        self, ir: ImageInput, vis: ImageInput, norm: NormMode | None = None, adapt: float | None = None
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
        """See `ImageFuser.start`; `exposure` as in `RPFNet`."""
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
