"""The two Adam optimizers of the fusion network and the auxiliary decoder (Section 4.1.2), and their schedules."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import optax


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Learning rates of both optimizers.

    Attributes:
        learning_rate: initial rate of both. Paper: 1e-3.
        halvings: how often the fusion network's rate is halved, at equal distances over the whole run. 4 in 100 epochs
            means every 20 epochs, as in the paper; shorter runs scale along.
        auxiliary_halvings: the same for the auxiliary decoder. Paper: 4. Released code: 0.
        shape: `halvings`, or `cosine`: both rates fall along half a cosine to 0 at the end of the run.
        warmup: with `cosine`, the share of the run in which the rates rise linearly from 0. Paper: none.
    """

    learning_rate: float = 1e-3
    halvings: int = 4
    auxiliary_halvings: int = 4
    shape: Literal["halvings", "cosine"] = "halvings"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if min(self.halvings, self.auxiliary_halvings) < 0:
            raise ValueError("schedule.halvings and schedule.auxiliary_halvings must not be negative")
        if self.shape not in ("halvings", "cosine"):
            raise ValueError(f"schedule.shape must be 'halvings' or 'cosine', got {self.shape!r}")
        if not 0 <= self.warmup < 1 or (self.warmup and self.shape != "cosine"):
            raise ValueError(f"schedule.warmup is a share of a 'cosine' run, below 1; got {self.warmup}")


@functools.lru_cache(maxsize=8)
def make_optimizer(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
    """Combines two Adam(0.9, 0.999), one for each subtree of the parameters, with `optax.multi_transform`.

    The subtrees are `fusion` and `auxiliary`; the latter may be absent.

    Args:
        config: the rates.
        total_steps: length of the whole run; both schedules are scaled to it.
    """
    halvings = {"fusion": config.halvings, "auxiliary": config.auxiliary_halvings}
    schedules = {name: halving_schedule(config.learning_rate, n, total_steps) for name, n in halvings.items()}
    if config.shape == "cosine":
        rate, warmup = config.learning_rate, round(config.warmup * total_steps)
        fall = optax.cosine_decay_schedule(rate, total_steps - warmup)
        rise = optax.linear_schedule(rate / (warmup + 1), rate, max(warmup, 1))
        schedules = dict.fromkeys(schedules, optax.join_schedules([rise, fall], [warmup]))
    return optax.multi_transform({name: optax.adam(schedule) for name, schedule in schedules.items()}, _labels)


def _labels(params: Mapping[str, Any]) -> dict[str, str]:
    """Labels each network's subtree with its own name, which is also that of its optimizer."""
    return {name: name for name in params}


def halving_schedule(learning_rate: float, halvings: int, total_steps: int) -> optax.Schedule:
    """Returns a schedule that halves the rate `halvings` times, at the ends of equal parts of `total_steps`."""
    boundaries: dict[int, float] = {}
    for k in range(1, halvings + 1):
        # In runs of a few steps several halvings coincide; the first step always has the full rate.
        boundary = max(1, round(total_steps * k / (halvings + 1)))
        boundaries[boundary] = boundaries.get(boundary, 1.0) * 0.5
    return optax.piecewise_constant_schedule(learning_rate, boundaries)
