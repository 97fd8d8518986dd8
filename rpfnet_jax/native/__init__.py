"""Convolutions on CPU by our own code, where the installation built it (winograd.cc explains it).

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
# Floats in the widest vectors that are used where the processor has them: 16 (AVX-512), 8 (AVX2), 4 (every processor).
WIDEST = 16
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


def suits(kernel_shape: tuple[int, ...], dtype: Any = jnp.float32) -> bool:
    """Whether `convolve` exists here and is faster than XLA for kernels of this shape, (k, k, C, D), and type."""
    size, _, channels, features = kernel_shape
    faster = channels >= _FEWEST and (size == 3 or (size > 3 and features == 1))
    return faster and dtype == jnp.float32 and _module is not None and not _switched_off


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c d"],
    bias: Float[Array, " d"] | None = None,
    dilation: int = 1,
    relu: bool = False,
) -> Float[Array, "b h w d"]:
    """Cross-correlates with stride 1 and zero padding that keeps the size, in float32 on CPU.

    With a kernel of 3, or to one map without dilation. Then adds the bias and takes the positive part where asked to.

    Equals XLA's convolution to a relative error of 1e-5; values that are not finite come through as in XLA. Has no
    derivative of its own: `rpfnet_jax.ops.convolution.conv2d` has.

    Args:
        x: feature maps.
        kernel: weights.
        bias: one value for each output map.
        dilation: distance in pixels between neighbouring taps.
        relu: whether negative results become 0.
    """
    # Traced rather than written down: inside `shard_map` the result's type also names the axes that it varies over.
    out = jax.eval_shape(lambda x, kernel: x[..., :1] * kernel[0, 0, 0], x, kernel)
    bias = jnp.zeros(kernel.shape[-1], jnp.float32) if bias is None else bias
    options = {"dilation": dilation, "activation": int(relu), "at_most": WIDEST}
    return jax.ffi.ffi_call(_TARGET, out)(x, kernel, bias, **{name: np.int64(value) for name, value in options.items()})
