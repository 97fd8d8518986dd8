"""What a train step does besides descending the objective's gradient."""

from __future__ import annotations

import dataclasses

from rpfnet_jax.training.darkening import DarkeningConfig


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """What is done about updates that would ruin the parameters.

    Attributes:
        max_grad_norm: an update whose gradient has a norm not below this is skipped, as is one with a loss or gradient
            that is not finite.
        patience: how many in a row are skipped before the run stops.
    """

    max_grad_norm: float = 1e4
    patience: int = 10

    def __post_init__(self) -> None:
        if not self.max_grad_norm > 0 or self.patience < 1:
            raise ValueError(f"guard.max_grad_norm must be positive and guard.patience at least 1, got {self}")


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Choices of a train step.

    Attributes:
        guard: which updates are skipped: they count as steps and change nothing else.
        darkening: which patches are made dark before the networks and losses see them.
        seed: draws the darkening, together with the number of the step.
        average: decay of the moving average of the fusion network's parameters, below 1; 0: none is kept. In the first
            steps it is (1 + step) / (10 + step) where that is less, so that the initial parameters are soon forgotten.
    """

    guard: GuardConfig = GuardConfig()
    darkening: DarkeningConfig = DarkeningConfig()
    seed: int = 0
    average: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be a decay in [0, 1), got {self.average}")
