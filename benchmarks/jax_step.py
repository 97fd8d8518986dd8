"""Our side of the train-step comparison: the package's own step, and its initial parameters under torch names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.fixed_batch import fixed_batch
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import OptimizerConfig, create_state, make_networks, make_optimizer, make_train_step

_STAGE = "iteration_block"
# Our ConvBlock -> the released network's names of its convolution and its batch normalisation.
_BLOCKS = {
    "residual_stem": ("init_spatial.0", "init_spatial.1"),
    "fusion_stem": ("init_freq.0", "init_freq.1"),
    "stage/cpm/gate": (f"{_STAGE}.cross_promotion.spatial_to_freq.0", f"{_STAGE}.cross_promotion.spatial_to_freq.1"),
    "stage/cpm/context": (f"{_STAGE}.cross_promotion.freq_to_spatial.0", f"{_STAGE}.cross_promotion.freq_to_spatial.1"),
    **{
        f"stage/rpm/dilated_{rate}": (
            f"{_STAGE}.residual_branch.dilated_convs.{index}.0",
            f"{_STAGE}.residual_branch.dilated_convs.{index}.1",
        )
        for index, rate in enumerate((1, 3, 5))
    },
    "stage/fdfm/local": (f"{_STAGE}.fourier_branch.conv_spatial.0", f"{_STAGE}.fourier_branch.conv_spatial.1"),
    "stage/fdfm/frequency": (f"{_STAGE}.fourier_branch.conv_layer", f"{_STAGE}.fourier_branch.bn"),
}
_CONVOLUTIONS = {"stage/rpm/merge": f"{_STAGE}.residual_branch.fusion"}
_HEAD_BLOCKS = {"head/block_0": ("decoder.0", "decoder.1"), "head/block_1": ("decoder.3", "decoder.4")}
_HEAD_CONVOLUTIONS = {"head/out": "decoder.6"}


def make_jax_step(batch: int, patch: int) -> tuple[Callable[[], float], Mapping[str, np.ndarray], float]:
    """The contract is written down at `JaxStep` in `train_step.py`."""
    networks = make_networks(ModelConfig.preset("released"))
    # So long a run that the schedule never drops the rate during the comparison.
    optimizer = make_optimizer(OptimizerConfig(), total_steps=1_000_000)
    state = create_state(networks, optimizer, seed=0)
    parameters = _torch_parameters(state.params["fusion"], state.params["auxiliary"])
    visible, infrared = fixed_batch(batch, patch)
    start = time.perf_counter()
    train_step = make_train_step(networks, LossConfig.preset("released"), optimizer)
    compiled = train_step.lower(state, infrared, visible).compile()  # type: ignore[attr-defined]
    compile_seconds = time.perf_counter() - start

    def step() -> float:
        nonlocal state
        state, terms = compiled(state, infrared, visible)
        jax.block_until_ready(state)
        return float(terms["total"])

    return step, parameters, compile_seconds


def _torch_parameters(fusion: Mapping[str, Any], auxiliary: Mapping[str, Any]) -> dict[str, np.ndarray]:
    named = _named(fusion, _BLOCKS | _HEAD_BLOCKS, _CONVOLUTIONS | _HEAD_CONVOLUTIONS)
    decoder = _named(auxiliary, _HEAD_BLOCKS, _HEAD_CONVOLUTIONS)
    return named | {f"aux.{name}": value for name, value in decoder.items()}


def _named(
    params: Mapping[str, Any], blocks: Mapping[str, tuple[str, str]], convolutions: Mapping[str, str]
) -> dict[str, np.ndarray]:
    named: dict[str, np.ndarray] = {}
    for path, (convolution, norm) in blocks.items():
        block = _at(params, path)
        named |= _convolution(block["conv"], convolution)
        named |= {f"{norm}.weight": np.array(block["norm"]["scale"]), f"{norm}.bias": np.array(block["norm"]["bias"])}
    for path, convolution in convolutions.items():
        named |= _convolution(_at(params, path), convolution)
    return named


def _convolution(params: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    named = {f"{name}.weight": np.array(params["kernel"]).transpose(3, 2, 0, 1)}
    if "bias" in params:
        named[f"{name}.bias"] = np.array(params["bias"])
    return named


def _at(tree: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    for key in path.split("/"):
        tree = tree[key]
    return tree
