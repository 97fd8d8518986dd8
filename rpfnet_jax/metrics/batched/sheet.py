"""The metrics of a batch of fused images, as columns of a table."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Float32, Shaped, UInt8

from rpfnet_jax.metrics.batched.edges import edges
from rpfnet_jax.metrics.batched.fidelity import fidelity
from rpfnet_jax.metrics.batched.statistics import histograms, statistics
from rpfnet_jax.metrics.batched.structural import structure
from rpfnet_jax.metrics.fidelity import MIN_SIZE
from rpfnet_jax.metrics.sheet import COLUMNS as REFERENCE_COLUMNS

COLUMNS = tuple(column for column in REFERENCE_COLUMNS if column != "fmi")
"""The columns of `measure_batch`, in order."""


Batch = Array | np.ndarray


def measure_batch(
    fused: Shaped[Batch, "..."], ir: Shaped[Batch, "..."], vis: Shaped[Batch, "..."]
) -> dict[str, Float32[Array, " b"]]:
    """Computes what `rpfnet_jax.metrics.measure` does, of all images of a batch, in float32 and compiled.

    On photographs the values agree with `measure` to 1e-4 and better (relative). FMI is not among them: it sorts in
    every window, which is no work for array code. Each new shape of a batch is compiled, which takes seconds.

    Args:
        fused: uint8 (b, h, w), at least 41 x 41.
        ir: uint8 (b, h, w).
        vis: uint8 (b, h, w).

    Returns:
        Column -> one value per image, in the order of `COLUMNS`.

    Raises:
        ValueError: not uint8, not of one shape (b, h, w), or smaller than 41 x 41.
    """
    for image in (fused, ir, vis):
        if image.dtype != "uint8" or image.ndim != 3 or image.shape != fused.shape or min(image.shape[1:]) < MIN_SIZE:
            given = " and ".join(f"{image.dtype} {image.shape}" for image in (fused, ir, vis))
            raise ValueError(f"need uint8 batches of one shape (b, h, w), h and w at least {MIN_SIZE}; got {given}")
    columns = _measure(fused, ir, vis)
    # What comes out of jit is in alphabetical order.
    return {column: columns[column] for column in COLUMNS}


@jax.jit
def _measure(*triple: UInt8[Array, "b h w"]) -> dict[str, Float32[Array, " b"]]:
    return fidelity(*triple) | structure(*triple) | edges(*triple) | statistics(*triple) | histograms(*triple)
