"""What fusing one picture takes: parameters, and floating point operations as the compiler counts them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rpfnet_jax.inference.fuser import Fuser


class Cost(NamedTuple):
    """The cost of one picture.

    XLA counts 8·floor(log2 H)·floor(log2 W) operations per element that goes into a two-dimensional FFT: logarithms are
    multiplied where a fast transform adds them (at 640x480: 72 against 17). So its share is named apart and counted
    anew: 2.5·n·log2(n) for a real transform of n = H·W points, the usual figure (Johnson and Frigo 2007).

    Attributes:
        parameters: trained numbers, running statistics not among them.
        flops: all but the transforms, by XLA: convolutions as 2 per multiply-add, norms and activations.
        fft_flops: the transforms, by the formula.
        fft_flops_xla: the transforms, as XLA counts them.
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
    """Counts what `net` takes for one picture in its norm mode; compiles the network for that size.

    `running` mode has its norms folded into the convolutions and so fewer operations.

    Raises:
        ValueError: a side is shorter than 16.
        MemoryError: such a picture will not fit.
    """
    config = net.config
    total = _flops(net.compile((1, height, width, 1)))
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
