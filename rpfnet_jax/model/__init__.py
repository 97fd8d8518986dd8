"""The network: `RPFNet`, its auxiliary decoder and the configuration of its two readings."""

from rpfnet_jax.model.config import ModelConfig, Reading, RuntimeOptions
from rpfnet_jax.model.layers import NormContext, NormMode, StageNorm
from rpfnet_jax.model.network import (
    MIN_SIDE,
    AuxiliaryDecoder,
    RPFNet,
    StageFeatures,
    check_shapes,
    fold,
    init_variables,
    variable_shapes,
)

__all__ = [
    "MIN_SIDE",
    "AuxiliaryDecoder",
    "ModelConfig",
    "NormContext",
    "NormMode",
    "RPFNet",
    "Reading",
    "RuntimeOptions",
    "StageFeatures",
    "StageNorm",
    "check_shapes",
    "fold",
    "init_variables",
    "variable_shapes",
]
