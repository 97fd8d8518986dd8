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
from rpfnet_jax.weights import to_torch


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
    decoder = to_torch({"params": auxiliary})
    # The torch side leaves out the attention that the released network computes and drops.
    named = {name: value for name, value in to_torch({"params": fusion}).items() if "_attention." not in name}
    return named | {f"aux.{name}": value for name, value in decoder.items()}
