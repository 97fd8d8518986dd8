"""3x3 convolutions on CPU by our own code, where the installation built it (winograd.cc explains it).

Without a compiler at installation, or with the environment variable `RPFNET_NATIVE=0`, XLA's convolutions are used
instead. Programs for GPU and TPU never contain these.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_TARGET = "rpfnet_winograd"
# With fewer input channels XLA is faster: the transforms cost as much for one channel as for a whole vector of them.
_FEWEST = 3


def _load() -> Any:
    if os.environ.get("RPFNET_NATIVE", "1") == "0":
        return None, "switched off (RPFNET_NATIVE=0)"
    try:
        module = importlib.import_module("rpfnet_jax.native._winograd")
    except ImportError as error:
        return None, f"not built ({error})"
    jax.ffi.register_ffi_target(_TARGET, module.convolve, platform="cpu")
    return module, module.kernel


# `STATUS` is the instruction set in use, or why there is none: for `rpfnet doctor`.
_module, STATUS = _load()
_switched_off = 0


@contextlib.contextmanager
def without_native_code() -> Iterator[None]:
    """Keeps native code out of the programs that are traced within: those for other machines, as exports are."""
    global _switched_off
    _switched_off += 1
    # Programs traced before are not to be reused within, nor those from within afterwards.
    jax.clear_caches()
    try:
        yield
    finally:
        _switched_off -= 1
        jax.clear_caches()


def suits(kernel_shape: tuple[int, ...]) -> bool:
    """Whether `convolve` exists here and is faster than XLA for a kernel of this shape, (k, k, C, D)."""
    return _module is not None and not _switched_off and kernel_shape[:2] == (3, 3) and kernel_shape[2] >= _FEWEST


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], dilation: int, widest: int = 16
) -> Float[Array, "b h w d"]:
    """Cross-correlates with stride 1 and zero padding that keeps the size, in float32 on CPU.

    Equals XLA's convolution to a relative error of 1e-5; values that are not finite come through as in XLA. Has no
    derivative of its own: `rpfnet_jax.ops.convolution.conv2d` has.

    Args:
        x: feature maps.
        kernel: weights.
        dilation: distance in pixels between neighbouring taps.
        widest: number of floats in the widest vectors to use: 16 (AVX-512), 8 (AVX2), 4 (any processor).
    """
    out = jax.eval_shape(lambda x, kernel: x[..., :1] * kernel[0, 0, 0], x, kernel)
    call = jax.ffi.ffi_call(_TARGET, out)
    bias = jnp.zeros(kernel.shape[-1], jnp.float32)
    return call(x, kernel, bias, dilation=np.int64(dilation), activation=np.int64(0), at_most=np.int64(widest))
