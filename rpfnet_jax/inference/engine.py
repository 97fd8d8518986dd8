"""Compiled networks, one per configuration, norm mode and shape, and the memory that they need."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rpfnet_jax.model import ModelConfig, NormMode, RPFNet, RuntimeOptions
from rpfnet_jax.model.transformer import WINDOW, head_count
from rpfnet_jax.ops.convolution import Precision
from rpfnet_jax.ops.tone import Exposure, measure_exposure
from rpfnet_jax.runtime import available_memory

# Activations of C channels that are alive at once, by the fusion block. Tests compare all of these numbers with the
# compiler's report; adaptive mode takes the most.
_LIVE_ACTIVATIONS = {"fdfm": 11, "transformer": 16}
# Transformer blocks also have maps of attention scores: for each head and pixel as many as a window has pixels.
_LIVE_SCORES = 5
# For each scale of a source's details.
_LIVE_DETAILS = 6
_BYTES = 4
_SHARE = 0.9


@dataclasses.dataclass(frozen=True)
class Program:
    """A network to compile for one shape; equal programs share one compiled function.

    Attributes:
        config: the network.
        norm: norm mode.
        shape: of the infrared and the visible batch, (B, H, W, 1).
        features: whether the stages' feature maps are returned as well.
        variables: the network's, which the compiled function takes as an argument; here only shapes and dtypes.
        on_compile: called before the compilation; not called where the program was compiled before.
        jit: whether to compile it at all; `JAX_DISABLE_JIT=1` runs every network operation by operation.
        precision: see `RuntimeOptions`.
    """

    config: ModelConfig
    norm: NormMode
    shape: tuple[int, ...]
    features: bool = False
    variables: Any = dataclasses.field(default=None, compare=False)
    on_compile: Callable[[Program], None] | None = dataclasses.field(default=None, compare=False)
    jit: bool = dataclasses.field(default_factory=lambda: not jax.config.values["jax_disable_jit"])
    precision: Precision = "float32"


# Of the networks compiled so far, by configuration and whether feature maps are returned: the most of any size.
_bytes_per_pixel: dict[tuple[ModelConfig, bool], float] = {}


@functools.lru_cache(maxsize=32)
def compile_program(program: Program) -> jax.stages.Compiled:
    """Compiles a function of (variables, ir, vis_y, adapt, exposure); JAX's cache on disk may shorten that.

    Raises:
        ValueError: JAX is set not to compile.
    """
    if program.on_compile is not None:
        program.on_compile(program)
    compiled = lower_program(program).compile()
    # Not every backend analyses its programs.
    if (memory := compiled.memory_analysis()) is not None:
        needed = (memory.temp_size_in_bytes + memory.output_size_in_bytes) / math.prod(program.shape)
        kind = program.config, program.features
        _bytes_per_pixel[kind] = max(_bytes_per_pixel.get(kind, 0.0), needed)
    return compiled


def lower_program(program: Program, place: Callable[[Any], Any] = lambda tree: tree) -> jax.stages.Lowered:
    """Traces a program; `place` may put the arguments' shapes on other devices than the default one.

    Raises:
        ValueError: JAX is set not to compile.
    """
    if not program.jit:
        raise ValueError("nothing is compiled while JAX_DISABLE_JIT is set")
    image = jax.ShapeDtypeStruct(program.shape, jnp.float32)
    adapt = jax.ShapeDtypeStruct((), jnp.float32)
    exposure = jax.eval_shape(partial(exposure_for, program.config), image, image)
    return jax.jit(function_of(program)).lower(*place((program.variables, image, image, adapt, exposure)))


def function_of(program: Program) -> Callable[..., Any]:
    """Returns what a program computes, as a function that is not compiled."""
    model = RPFNet(program.config, RuntimeOptions(precision=program.precision))

    def fuse(variables: Any, ir: Any, vis_y: Any, adapt: Any, exposure: Any) -> Any:
        return model.apply(variables, ir, vis_y, program.norm, adapt, program.features, exposure)

    return fuse


def exposure_for(config: ModelConfig, ir: Any, vis_y: Any) -> Exposure | None:
    """Measures what a network with a base needs of whole images, (B, H, W, 1); None without a base."""
    return None if config.base == "none" else measure_exposure(ir, vis_y)


def memory_needed(config: ModelConfig, shape: tuple[int, ...], features: bool = False) -> int:
    """Estimates from above how many bytes fusing a batch of this shape, (B, H, W, 1), takes beside the weights.

    Once the network was compiled for any size, the compiler's own figure is scaled to this one. With `features` the
    maps of all stages are part of it, four a stage.
    """
    if (config, features) in _bytes_per_pixel:
        return math.ceil(_bytes_per_pixel[config, features] * math.prod(shape))
    batch, height, width = shape[:3]
    planes = _LIVE_ACTIVATIONS[config.fusion_block] * config.channels + _LIVE_DETAILS * 2 * config.details
    if features:
        planes += 4 * config.stages * config.channels
    if config.fusion_block == "transformer":
        planes += _LIVE_SCORES * head_count(config.channels) * WINDOW**2
    return planes * batch * height * width * _BYTES


def available() -> int | None:
    """Returns the bytes that JAX's default device can still give; None where that can't be found out."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return available_memory()
    statistics = device.memory_stats() or {}
    if "bytes_limit" not in statistics:
        _warn_of_unknown_memory(device.device_kind)
        return None
    return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)


@functools.cache
def _warn_of_unknown_memory(device: str) -> None:
    """Warns once per process."""
    warnings.warn(
        f"{device} does not report its memory: images are fused one at a time (--batch-size replaces that) and none is "
        "refused beforehand as too large",
        stacklevel=4,
    )


def check_memory(config: ModelConfig, shape: tuple[int, ...], features: bool = False) -> None:
    """Raises MemoryError, with both figures and the way out, when a batch of this shape will not fit."""
    needed, free = memory_needed(config, shape, features), available()
    if free is not None and needed > _SHARE * free:
        raise MemoryError(
            f"fusing {shape[0]} image(s) of {shape[1]}x{shape[2]} takes about {needed / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free; fuse in tiles (in_tiles(512), --tile=512)"
        )
