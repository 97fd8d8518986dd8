"""Our training step, compiled, for `train_step.py` and `step_time.py`."""

from __future__ import annotations

import time
from typing import Any

import jax

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import Compute, OptimizerConfig, create_state, make_networks, make_optimizer, make_train_step
from rpfnet_jax.training.feed import make_mesh, replicate, spread
from shared import fixed_batch


class CompiledStep:
    """A training step compiled ahead of its first call.

    A call trains once on `fixed_batch(batch, patch)` and returns the loss before the update, after the new state is
    complete. All devices share the batch, as in `train.py`.

    Args:
        model: the network.
        losses: its objective.
        batch: number of patches.
        patch: their side in pixels.

    Attributes:
        state: the training state after the last call.
        compiled: the executable.
        compile_seconds: the time that tracing and compiling took.
    """

    def __init__(self, model: ModelConfig, losses: LossConfig, batch: int, patch: int) -> None:
        networks = make_networks(model)
        # With so many steps the schedule never lowers the rate during a benchmark.
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
