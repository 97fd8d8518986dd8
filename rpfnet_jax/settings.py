"""From a configuration (configs/base.py) to what it describes: network, objective, optimizer, step, plan of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rpfnet_jax.data.loader import PatchSource, steps_per_epoch
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import (
    Compute,
    DarkeningConfig,
    Devices,
    GuardConfig,
    OptimizerConfig,
    StepConfig,
    TrainingPlan,
)

# Fields that may differ between a run and its continuation: none of them changes a parameter by more than rounding
# while it is trained.
_FREE_FIELDS = ("name", "log", "validation", "fusion", "contrast", "mesh", "distributed")


def model_config(config: ConfigDict) -> ModelConfig:
    """The network that a configuration describes: its reading, with the fields that are not None replaced."""
    return ModelConfig.from_fields(config.model.to_dict())


def loss_config(config: ConfigDict) -> LossConfig:
    """The objective that a configuration describes; `loss.reading` None means the network's reading."""
    fields = config.loss.to_dict()
    return LossConfig.preset(fields.pop("reading") or config.model.reading, **fields)


def optimizer_config(config: ConfigDict) -> OptimizerConfig:
    """Both Adams of a configuration."""
    return OptimizerConfig(config.learning_rate, **_given(config.schedule))


def step_config(config: ConfigDict) -> StepConfig:
    """What an update does besides descending the gradient."""
    return StepConfig(
        guard=GuardConfig(**_given(config.guard)),
        darkening=DarkeningConfig(**_given(config.darkening)),
        seed=config.seed,
        average=config.average or 0.0,
    )


def training_plan(config: ConfigDict, patches: int) -> TrainingPlan:
    """The run that a configuration describes, on so many patches.

    Raises:
        ValueError, TypeError: a field has an impossible value.
    """
    epoch = steps_per_epoch(patches, config.batch_size)
    return TrainingPlan(
        model=model_config(config),
        losses=loss_config(config),
        optimizer=optimizer_config(config),
        total_steps=config.steps or config.epochs * epoch,
        batch_size=config.batch_size,
        seed=config.seed,
        log_every=config.log.every_steps,
        panels_every=config.log.panels_every_steps,
        validate_every=config.validation.every_epochs * epoch,
        checkpoint_every=config.log.checkpoint_every_steps,
        monitor=config.validation.monitor,
        devices=_devices(config.mesh.data),
        resident=config.data.resident,
        compute=Compute(**config.compute),
        step=step_config(config),
    )


def run_identity(record: Mapping[str, Any], source: PatchSource) -> dict[str, Any]:
    """What two halves of one run must share: the configuration that decides the result, and the patches."""
    identity = {name: value for name, value in record.items() if name not in _FREE_FIELDS}
    # What leaves every parameter as it is but for rounding may differ; what a run had before there were these fields
    # is as good as absent.
    usual = dataclasses.asdict(Compute(remat=record["compute"]["remat"]))
    identity["compute"] = {name: value for name, value in record["compute"].items() if value != usual[name]}
    # A data set may move between the halves: its content counts, not its path.
    identity["data"] = {
        name: value for name, value in record["data"].items() if name not in ("root", "source", "skip_bad", "resident")
    }
    identity["data"]["content_sha256"] = source.fingerprint()
    return identity


def _given(fields: ConfigDict) -> dict[str, Any]:
    """Without those that are None: the class's own defaults stay."""
    return {name: value for name, value in fields.items() if value is not None}


def _devices(value: str) -> Devices:
    """`config.mesh.data`, which is text so that the command line takes both words and numbers."""
    return int(value) if value.isdecimal() else value  # type: ignore[return-value]
