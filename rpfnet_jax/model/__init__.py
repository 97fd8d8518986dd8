"""The network: `RPFNet`, its auxiliary decoder and the configuration of its two readings."""

from rpfnet_jax.model.config import ModelConfig, Reading
from rpfnet_jax.model.execution import Execution, Precision
from rpfnet_jax.model.folding import fold
from rpfnet_jax.model.layers import NormMode, StageNorm, Statistics
from rpfnet_jax.model.network import (
    MIN_SIDE,
    AuxiliaryDecoder,
    RPFNet,
    StageFeatures,
    check_shapes,
    init_variables,
    variable_shapes,
)

__all__ = [
    "MIN_SIDE",
    "AuxiliaryDecoder",
    "Execution",
    "ModelConfig",
    "NormMode",
    "Precision",
    "RPFNet",
    "Reading",
    "StageFeatures",
    "StageNorm",
    "Statistics",
    "check_shapes",
    "fold",
    "init_variables",
    "variable_shapes",
]
