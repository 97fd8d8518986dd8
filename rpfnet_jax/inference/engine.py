"""Compiled inference: one function per shape, the least recently used dropped, and what a picture costs in memory."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rpfnet_jax.model import ModelConfig, NormMode, RPFNet
from rpfnet_jax.tone import Exposure, measure_exposure

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
