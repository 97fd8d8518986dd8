"""Folding fixed statistics into the convolutions, for inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.normalisation import EPSILON


def fold(config: ModelConfig, variables: Mapping[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    """A network without norm layers that computes what `running` mode does, to be applied with `norm="folded"`.

    conv(x) * s + t with s = scale / sqrt(var + eps) and t = bias - mean * s is a convolution with the kernel times s.
    As each stage has statistics of its own, so it gets convolutions of its own: the result does not share its stages.

    Args:
        config: of the network.
        variables: its `params` and `batch_stats`.

    Returns:
        Configuration and variables (`params` only, NumPy arrays) of the folded network.
    """
    folded = {}
    for name, tree in variables["params"].items():
        statistics = variables.get("batch_stats", {}).get(name, {})
        if name == "stage":
            for stage in range(config.stages):
                folded[f"stage_{stage}"] = _fold(tree, statistics, stage)
        else:
            folded[name] = _fold(tree, statistics, 0)
    return dataclasses.replace(config, share_stages=False), {"params": folded}


def _fold(params: Mapping[str, Any], statistics: Mapping[str, Any], row: int) -> dict[str, Any]:
    if "conv" in params and "norm" in params:
        conv, norm, stored = params["conv"], params["norm"], statistics["norm"]
        row = min(row, stored["mean"].shape[0] - 1)
        mean, var = (np.asarray(stored[name][row]) for name in ("mean", "var"))
        scale = np.asarray(norm["scale"]) / np.sqrt(var + np.float32(EPSILON))
        shift = np.asarray(norm["bias"]) + (np.asarray(conv.get("bias", np.float32(0))) - mean) * scale
        return {"conv": {"kernel": np.asarray(conv["kernel"]) * scale, "bias": shift}}
    return {
        name: _fold(tree, statistics.get(name, {}), row) if isinstance(tree, Mapping) else tree
        for name, tree in params.items()
    }
