"""How much memory a fusion takes, and how much there is."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rpfnet_jax.model import ModelConfig, NormMode, RPFNet
from rpfnet_jax.model.transformer import WINDOW, head_count
from rpfnet_jax.ops.tone import Exposure, measure_exposure
from rpfnet_jax.runtime import kept_memory

# Activations of C channels that are alive at once, by the fusion block; tests hold all this against what the compiler
# reports, of which adaptive mode takes the most.
_LIVE_ACTIVATIONS = {"fdfm": 11, "transformer": 16}
# With Transformer blocks also maps of attention scores: for each head and pixel as many as a window has pixels.
_LIVE_SCORES = 5
# For each scale of a source's details.
_LIVE_DETAILS = 6
_BYTES = 4
_SHARE = 0.9


def estimate(config: ModelConfig, shape: tuple[int, ...], features: bool = False) -> int:
    """Bytes that fusing a batch of this shape, (B, H, W, 1), takes beside the weights; an upper estimate.

    With `features` the maps of all stages are part of it, four a stage.
    """
    batch, height, width = shape[:3]
    planes = _LIVE_ACTIVATIONS[config.fusion_block] * config.channels + _LIVE_DETAILS * 2 * config.details
    if features:
        planes += 4 * config.stages * config.channels
    if config.fusion_block == "transformer":
        planes += _LIVE_SCORES * head_count(config.channels) * WINDOW**2
    return planes * batch * height * width * _BYTES


def available() -> int | None:
    """Bytes that JAX's default device can still give; None where that can't be found out."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return _main_memory()
    statistics = device.memory_stats() or {}
    if "bytes_limit" not in statistics:
        return None
    return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)


def check(config: ModelConfig, shape: tuple[int, ...], features: bool = False) -> None:
    """Raises MemoryError, with both figures and the way out, when a batch of this shape will not fit."""
    needed, there = estimate(config, shape, features), available()
    if there is not None and needed > _SHARE * there:
        raise MemoryError(
            f"fusing {shape[0]} picture(s) of {shape[1]}x{shape[2]} takes about {needed / 2**30:.1f} GiB and "
            f"{there / 2**30:.1f} GiB are free; fuse it in tiles (in_tiles(512), --tile=512)"
        )


def largest_batch(config: ModelConfig, height: int, width: int, limit: int | None = None) -> int:
    """Pictures of this size that fit into `limit` bytes (default: half of what is free), at least 1."""
    limit = limit if limit is not None else (available() or 0) // 2
    return max(1, limit // estimate(config, (1, height, width, 1)))


def _main_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines)
    if "MemAvailable" not in sizes:
        return None
    # What earlier pictures have left with the C library counts as used there, and serves the next one.
    return int(sizes["MemAvailable"].split()[0]) * 1024 + kept_memory()


CAPACITY = 32


class Program(NamedTuple):
    """What determines a compiled function; the weights are its arguments.

    Attributes:
        config: the network.
        norm: norm mode.
        shape: of the infrared and the visible batch, (B, H, W, 1).
        features: whether the stages' feature maps are returned as well.
    """

    config: ModelConfig
    norm: NormMode
    shape: tuple[int, ...]
    features: bool = False


_compiled: collections.OrderedDict[Program, Any] = collections.OrderedDict()
_lock = threading.Lock()


def compiled(program: Program, variables: Any, on_compile: Callable[[Program], None] | None = None) -> Any:
    """The compiled program, compiled now if that was not done or is long ago; JAX's cache on disk may shorten that.

    Args:
        program: what to compile.
        variables: the network's; only shapes and dtypes are used.
        on_compile: told before a compilation starts.

    Returns:
        A `jax.stages.Compiled` of (variables, ir, vis_y, adapt, exposure), the last None without a base.
    """
    with _lock:
        function = _compiled.get(program)
        if function is not None:
            _compiled.move_to_end(program)
    if function is None:
        if on_compile is not None:
            on_compile(program)
        function = _compile(program, variables)
        with _lock:
            _compiled[program] = function
            while len(_compiled) > CAPACITY:
                _compiled.popitem(last=False)
    return function


def needed_exposure(config: ModelConfig, ir: Any, vis_y: Any) -> Exposure | None:
    """What a network asks of whole pictures, (B, H, W, 1): None without a base."""
    return None if config.base == "none" else measure_exposure(ir, vis_y)


def _compile(program: Program, variables: Any) -> Any:
    model = RPFNet(program.config)

    def fuse(variables: Any, ir: Any, vis_y: Any, adapt: Any, exposure: Any) -> Any:
        return model.apply(variables, ir, vis_y, program.norm, adapt, program.features, exposure)

    image = jax.ShapeDtypeStruct(program.shape, jnp.float32)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    adapt = jax.ShapeDtypeStruct((), jnp.float32)
    exposure = jax.eval_shape(partial(needed_exposure, program.config), image, image)
    return jax.jit(fuse).lower(abstract, image, image, adapt, exposure).compile()
