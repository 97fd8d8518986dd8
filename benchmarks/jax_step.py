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
from rpfnet_jax.training import Compute, OptimizerConfig, create_state, make_networks, make_optimizer, make_train_step
from rpfnet_jax.training.parallel import make_mesh, replicate, spread
from rpfnet_jax.weights import to_torch


class CompiledStep:
    """A train step, compiled ahead of its first call. Called, it trains once and returns the loss before the update.

    All devices share the batch, as in `train.py`.

    Args:
        model: the network.
        losses: its objective.
        batch: number of patches of `fixed_batch`.
        patch: their side.

    Attributes:
        state: the parameters and what belongs to them.
        compiled: the executable.
        compile_seconds: what tracing and compiling took.
    """

    def __init__(self, model: ModelConfig, losses: LossConfig, batch: int, patch: int) -> None:
        networks = make_networks(model)
        # So long a run that the schedule never drops the rate during the comparison.
        optimizer = make_optimizer(OptimizerConfig(), total_steps=1_000_000)
        mesh = make_mesh("auto", batch)
        self.state = replicate(create_state(networks, optimizer, seed=0), mesh)
        self._visible, self._infrared = (spread(side, batch, mesh) for side in fixed_batch(batch, patch))
        start = time.perf_counter()
        train_step: Any = make_train_step(networks, losses, optimizer, Compute(mesh=mesh))
        self.compiled = train_step.lower(self.state, self._infrared, self._visible).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> float:
        self.state, terms = self.compiled(self.state, self._infrared, self._visible)
        jax.block_until_ready(self.state)
        return float(terms["total"])


def make_jax_step(batch: int, patch: int) -> tuple[Callable[[], float], Mapping[str, np.ndarray], float]:
    """The contract is written down at `JaxStep` in `train_step.py`."""
    step = CompiledStep(ModelConfig.preset("released"), LossConfig.preset("released"), batch, patch)
    parameters = _torch_parameters(step.state.params["fusion"], step.state.params["auxiliary"])
    return step, parameters, step.compile_seconds


def _torch_parameters(fusion: Mapping[str, Any], auxiliary: Mapping[str, Any]) -> dict[str, np.ndarray]:
    decoder = to_torch({"params": auxiliary})
    # The torch side leaves out the attention that the released network computes and drops.
    named = {name: value for name, value in to_torch({"params": fusion}).items() if "_attention." not in name}
    return named | {f"aux.{name}": value for name, value in decoder.items()}
