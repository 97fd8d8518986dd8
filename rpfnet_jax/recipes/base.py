"""Fields and defaults shared by all recipes (paper, Section 4.1), and the dataclasses that a configuration describes.

`model`, `loss`, `schedule`, `darkening` and `guard` have the fields of the dataclasses, whose docstrings explain them.
Assigning to a field that does not exist is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig, Reading
from rpfnet_jax.training import Compute, DarkeningConfig, GuardConfig, OptimizerConfig, StepConfig


def get_config(reading: Reading = "paper") -> ConfigDict:
    """Returns every field of a configuration, with the paper's values.

    Args:
        reading: presets of network and losses: `paper` (the equations) or `released` (the authors' code).

    Raises:
        ValueError: unknown reading.
    """
    config = ConfigDict()
    config.name = "base"
    config.seed = 0  # Initial parameters, crop plan, order of the patches, split.
    config.batch_size = 16
    config.epochs = 100
    config.steps = 0  # Length of the run in updates; 0: derived from the epochs. The schedule scales along.

    rates = dataclasses.asdict(OptimizerConfig())
    config.learning_rate = rates.pop("learning_rate")  # Of both Adam optimizers.
    config.schedule = ConfigDict(rates)
    config.average = StepConfig().average  # Decay of a moving average of the parameters, which is then the result.
    # F's logits are multiplied by this after training; needs model.base = "none". Changing it in a finished workdir
    # rewrites the weights without training; the choice of the best step is not repeated.
    config.contrast = 1.0
    config.darkening = ConfigDict(dataclasses.asdict(DarkeningConfig()))
    config.guard = ConfigDict(dataclasses.asdict(GuardConfig()))

    config.model = _preset(ModelConfig, reading)
    config.loss = _preset(LossConfig, reading)

    config.mesh = ConfigDict()
    # Devices that share each batch: a number, or "auto": as many as divide it, of all processes.
    config.mesh.data = "auto"

    config.distributed = ConfigDict()  # Several processes, usually one per machine; see docs/multi-host.md.
    config.distributed.coordinator = placeholder(str)  # HOST:PORT of process 0, or "auto" (SLURM, ...); None: alone.
    config.distributed.processes = placeholder(int)  # With HOST:PORT: the number of processes,
    config.distributed.process_id = placeholder(int)  # and the index of this one, from 0.

    config.compute = ConfigDict()  # See docs/training.md.
    config.compute.accumulate = 1  # Microbatches per update: less memory, and statistics over fewer patches.
    config.compute.remat = False  # True: less memory, more time, the same values.
    config.compute.precision = "float32"  # Of convolutions in training; "bfloat16" rounds their operands.

    config.data = ConfigDict()
    config.data.root = "data"  # A folder, or "synthetic": the embedded scenes.
    config.data.train = "train"  # Subfolders of the root; if they are missing, the root itself is split.
    config.data.validation = "val"
    config.data.sets = placeholder(tuple)  # Subfolders of the root, each laid out like one, to be joined; None: itself.
    config.data.functional = "vis"  # The role of PET or SPECT beside MRI; or "ir".
    config.data.ir_scaling = (
        "full"  # Infrared of more than 8 bits: or "percentile:1,99", "range:7000,9500" (raw values).
    )
    config.data.vis_scaling = "full"  # Likewise for visible images.
    config.data.holdout = 0.1  # Share of the pairs kept for validation when the root is split; at least one pair.
    config.data.patches = 3383
    config.data.patch_size = 128
    config.data.skip_bad = False  # True: unusable pairs are named and left out; False: they are an error.
    config.data.augment = False  # True: each patch gets one of the 8 flips and quarter turns, drawn with the plan.
    config.data.resident = "auto"  # The images stay on the device: "on", "off"; "auto": on accelerators with room.
    config.data.scenes = 24  # Embedded scenes to train and to validate on.
    config.data.validation_scenes = 8
    config.data.source = "Any registered infrared and visible images will do."  # Where the set comes from.

    config.fusion = ConfigDict()  # Stored with the weights.
    config.fusion.norm = "image"  # Or "running", "adaptive".
    config.fusion.adapt = 0.1  # Weight of the image's own statistics in "adaptive" mode.
    config.fusion.color_range = "full"  # Or "studio": the stretched colours of the authors' test script.

    config.validation = ConfigDict()
    config.validation.every_epochs = 10  # 0: only at the end.
    config.validation.pairs = 8  # How many of the validation pairs are fused during training; 0: all.
    config.validation.final_pairs = 0  # How many are fused and measured at the end; 0: all.
    config.validation.monitor = "vifp_standard"  # Decides which checkpoint is best; more is better.

    config.log = ConfigDict()
    config.log.every_steps = 10
    config.log.panels_every_steps = 500  # 0: only at the end.
    config.log.checkpoint_every_steps = 500  # In addition to those at validations; 0: only at validations.
    return config.lock()


class _Preset(ConfigDict):
    """The fields of a dataclass with the values of one reading, which can't be changed to another reading later."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "reading" and value != self.get(key, value):
            raise ValueError(
                f"the reading is not a field but a variant of the recipe: --config=NAME:{value}, as in flir:{value}"
            )
        super().__setitem__(key, value)


def _preset(kind: type[ModelConfig] | type[LossConfig], reading: Reading) -> _Preset:
    fields = dataclasses.asdict(kind.preset(reading))
    fields.pop("axis", None)  # Chosen by the train step.
    return _Preset({"reading": reading, **fields})


def model_config(config: ConfigDict) -> ModelConfig:
    """Returns the network that a configuration describes."""
    return ModelConfig.preset(**config.model)


def loss_config(config: ConfigDict) -> LossConfig:
    """Returns the losses that a configuration describes."""
    return LossConfig.preset(**config.loss)


def optimizer_config(config: ConfigDict) -> OptimizerConfig:
    """Returns the learning rates that a configuration describes."""
    return OptimizerConfig(config.learning_rate, **config.schedule)


def step_config(config: ConfigDict) -> StepConfig:
    """Returns what a configuration asks of each update besides following the gradient."""
    return StepConfig(GuardConfig(**config.guard), DarkeningConfig(**config.darkening), config.seed, config.average)


def normalised_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Writes every choice of an identity out, so that those written by different versions can be compared.

    In the records of older versions None, or a missing field, stands for the reading's own value, or for what the
    program did before there was such a field: the defaults of the dataclasses.
    """

    def given(group: str) -> dict[str, Any]:
        return {name: value for name, value in (identity.get(group) or {}).items() if value is not None}

    model, compute = identity["model"], given("compute")
    # An identity that is written out already has no reading, and needs none.
    reading: Any = model.get("reading") or "paper"
    optimizer = dataclasses.asdict(OptimizerConfig(identity["learning_rate"], **given("schedule")))
    return {
        **identity,
        "model": dataclasses.asdict(ModelConfig.from_fields(model, reading)),
        "loss": dataclasses.asdict(LossConfig.from_fields(identity["loss"], reading)),
        "learning_rate": optimizer.pop("learning_rate"),
        "schedule": optimizer,
        "guard": dataclasses.asdict(GuardConfig(**given("guard"))),
        "darkening": dataclasses.asdict(DarkeningConfig(**given("darkening"))),
        "average": identity.get("average") or 0.0,
        # Rematerialisation only rounds differently.
        "compute": {name: compute.get(name, getattr(Compute(), name)) for name in ("accumulate", "precision")},
        "data": {"functional": "vis", "ir_scaling": "full", "vis_scaling": "full", **given("data")},
    }
