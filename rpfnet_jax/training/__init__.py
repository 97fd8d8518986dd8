"""Training: state, optimizer, step, loop, checkpoints; calibration of the running statistics."""

from rpfnet_jax.training.calibration import calibrate
from rpfnet_jax.training.checkpoint import CheckpointError, Checkpoints
from rpfnet_jax.training.loop import TrainingPlan, TrainingResult, train
from rpfnet_jax.training.monitor import DivergedError
from rpfnet_jax.training.optimizer import OptimizerConfig, make_optimizer
from rpfnet_jax.training.parallel import Devices
from rpfnet_jax.training.state import Networks, TrainState, create_state, make_networks
from rpfnet_jax.training.step import Compute, DarkeningConfig, GuardConfig, StepConfig, make_train_step

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "Compute",
    "DarkeningConfig",
    "Devices",
    "DivergedError",
    "GuardConfig",
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
