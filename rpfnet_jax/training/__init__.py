"""Training: state, optimizer, step, loop and checkpoints; calibration of running statistics."""

from rpfnet_jax.training.calibration import calibrate
from rpfnet_jax.training.checkpoint import CheckpointError, Checkpoints
from rpfnet_jax.training.loop import Callbacks, Intervals, TrainingPlan, TrainingResult, train
from rpfnet_jax.training.monitor import DivergedError
from rpfnet_jax.training.optimizer import OptimizerConfig, make_optimizer
from rpfnet_jax.training.state import Networks, TrainState, create_state, make_networks
from rpfnet_jax.training.step import Compute, DarkeningConfig, GuardConfig, StepConfig, make_train_step

__all__ = [
    "Callbacks",
    "CheckpointError",
    "Checkpoints",
    "Compute",
    "DarkeningConfig",
    "DivergedError",
    "GuardConfig",
    "Intervals",
    "Networks",
    "OptimizerConfig",
    "StepConfig",
    "TrainState",
    "TrainingPlan",
    "TrainingResult",
    "calibrate",
    "create_state",
    "make_networks",
    "make_optimizer",
    "make_train_step",
    "train",
]
