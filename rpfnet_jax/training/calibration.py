"""Measures running statistics per stage, for weights that come without usable ones.

One BatchNorm shared by N stages, as in the authors' code, keeps a single mean and variance for activations that differ
from stage to stage; its running statistics fit none of them. Measured per stage, `running` mode works again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rpfnet_jax.model import NormMode, RPFNet, StageNorm
from rpfnet_jax.training.step import to_unit


def calibrate(
    model: RPFNet, variables: dict[str, Any], batches: Iterable[Any], norm: NormMode = "image"
) -> tuple[dict[str, Any], int]:
    """Measures mean and variance of each norm layer's input in each stage, over all pixels of all patches.

    Each batch is reduced in two passes on the device; the batches are merged in float64 by the update of Chan, Golub &
    LeVeque (1979). In the modes that treat each image by itself the result does not depend on the batches.

    Args:
        model: the network.
        variables: its `params`, and `batch_stats` of any values.
        batches: `rpfnet_jax.data.patches.Batch` objects of one size, 8 bits; the last may be smaller. Read once.
        norm: mode in which the network runs meanwhile: `image`, whose images the running statistics are to approximate,
            `batch`, as in training, or `running`, with the statistics in `variables`.

    Returns:
        New variables with the same parameters, float32, and the number of patches seen.

    Raises:
        ValueError: no batches, or the network has no norms.
    """
    if model.config.norm == "none":
        raise ValueError("this network has no norms, and so no statistics to calibrate")
    totals: dict[str, _Moments] = {}
    patches = 0
    for batch in batches:
        patches += len(batch["ir"])
        for key, (mean, var, count) in _batch_moments(model, norm, variables, batch["ir"], batch["vis"]).items():
            totals.setdefault(key, _Moments()).merge(
                np.asarray(mean, np.float64), np.asarray(var, np.float64), int(count)
            )
    if not patches:
        raise ValueError("calibration needs at least one patch")

    flat = flatten_dict(variables["batch_stats"], sep="/")
    # Layers that no stage evaluates, such as the released network's dropped attention, keep their values.
    measured = {path: np.array(value, np.float32) for path, value in flat.items()}
    for key, total in totals.items():
        path, row = key.rsplit("@", 1)
        measured[f"{path}/mean"][int(row)] = total.mean
        measured[f"{path}/var"][int(row)] = total.squares / (total.count - 1)
    return {**variables, "batch_stats": unflatten_dict(measured, sep="/")}, patches


class _Moments:
    """Count, mean and sum of squared deviations of a stream that arrives in pieces."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = np.zeros(())

    def merge(self, mean: np.ndarray, var: np.ndarray, count: int) -> None:
        """Adds a piece of `count` values with this mean and (biased) variance."""
        shift, total = mean - self.mean, self.count + count
        self.squares = self.squares + var * count + np.square(shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


@jax.jit(static_argnums=(0, 1))
def _batch_moments(model: RPFNet, norm: NormMode, variables: dict, ir: Any, vis: Any) -> dict[str, tuple]:
    """Maps `path@row` of each norm layer's statistics to mean, biased variance and count of the layer's input."""
    moments = {}

    def record(layer: Any, arguments: tuple, options: dict, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, StageNorm) and context.method_name == "__call__":
            x, statistics, offset = arguments
            axes = (0, *module.pixel_axes)
            mean = jnp.mean(x, axes, keepdims=True)
            var = jnp.mean(jnp.square(x - mean), axes)
            row = statistics.stage if module.rows > 1 else 0
            # A convolution leaves out of x the bias that the norm would subtract; it is part of the mean.
            moments["/".join(module.path) + f"@{row}"] = (mean.reshape(-1) + offset, var, x.size // mean.size)
        return layer(*arguments, **options)

    # `image` mode drops the biases before a norm; `adaptive` keeps them, as the means of the other modes need them.
    mode = {"norm": "adaptive", "adapt": 1.0} if norm == "image" else {"norm": norm}
    with nn.intercept_methods(record):
        model.apply(variables, to_unit(ir), to_unit(vis), **mode)
    return moments
