"""Fields and defaults shared by all configurations: the paper's recipe (Section 4.1).

A field that is None takes the value of the reading. A field that does not exist is an error.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import (
    DarkeningConfig,
    GuardConfig,
    OptimizerConfig,
    StepConfig,
)


def get_config() -> ConfigDict:
    """Every field that a configuration has, with the paper's values."""
    config = ConfigDict()
    config.name = "base"
    config.seed = 0  # Initial parameters, crop plan, order of the patches, split.
    config.batch_size = 16
    config.epochs = 100
    config.steps = 0  # Length of the run in updates; 0: from the epochs. The schedule scales along.
    config.learning_rate = 1e-3  # Of both Adams.

    config.schedule = ConfigDict()
    config.schedule.halvings = 4  # Of the fusion network's rate, evenly over the run: every 20 of 100 epochs.
    config.schedule.auxiliary_halvings = 4  # Of the auxiliary decoder's rate.
    config.schedule.shape = placeholder(str)  # "halvings" (None), or "cosine": falls to 0, without halvings.
    config.schedule.warmup = placeholder(float)  # Share of a "cosine" run in which the rates rise. None: 0.
    config.average = placeholder(float)  # Decay of a moving average of the parameters, the result then; None: none.
    # Of the result: F's logits times this, after training, where model.base is "none". None: 1. Another value and the
    # same workdir: the finished run's weights anew; which step is best stays decided with the former value.
    config.contrast = placeholder(float)

    config.darkening = ConfigDict()  # Patches made dark and noisy, anew at every step.
    config.darkening.vis = placeholder(float)  # Share of the patches whose visible side is; None: 0.
    config.darkening.ir = placeholder(float)  # The same for the infrared side.

    config.mesh = ConfigDict()
    config.mesh.data = (
        "auto"  # Devices that share each batch; "auto": as many as divide it, of all processes; or a number.
    )

    config.distributed = ConfigDict()  # Several processes, in general one per machine; see docs/multi-host.md.
    config.distributed.coordinator = placeholder(str)  # HOST:PORT of process 0, or "auto" (SLURM, ...); None: alone.
    config.distributed.processes = placeholder(int)  # With HOST:PORT: how many,
    config.distributed.process_id = placeholder(int)  # and which one this is, from 0.

    config.compute = ConfigDict()  # docs/training.md.
    config.compute.accumulate = 1  # Microbatches per update: less memory, and statistics over fewer patches.
    config.compute.remat = False  # True: less memory, more time, the same values.
    config.compute.precision = "float32"  # Of convolutions in training; "bfloat16": rounds what they multiply.

    config.guard = ConfigDict()  # Updates that would ruin the parameters are skipped.
    config.guard.max_grad_norm = placeholder(float)  # Those whose gradient has a norm from here on; None: 1e4.
    config.guard.patience = placeholder(int)  # The run stops after so many in a row; None: 10.

    config.model = ConfigDict()
    config.model.reading = "paper"  # Or "released": what the authors' code computes.
    config.model.stages = 3  # N.
    config.model.channels = 32
    config.model.share_stages = True  # False: own weights for each stage.
    config.model.gate_kernel = placeholder(int)  # Eq. 2: 3 (paper), 1 (released).
    config.model.attention = placeholder(bool)  # Eq. 3: True (paper), False (released).
    config.model.merge = placeholder(str)  # Eq. 3: "sum" (paper), "concat" (released).
    config.model.spectral_input = placeholder(str)  # Eq. 4: "refined" (paper), "raw" (released).
    config.model.fusion_block = placeholder(str)  # "fdfm" (both readings), "transformer": that in its place.
    config.model.cpm = placeholder(bool)  # True (both readings), False: no exchange between the branches.
    config.model.residual_prior = placeholder(bool)  # True (both); False: no residual branch; cpm, auxiliary: False.
    config.model.norm = placeholder(str)  # "batch" (both readings), "none": convolutions without any norm.
    config.model.base = placeholder(str)  # "none" (both readings), "exposed_sum": F is that and what is learned.
    config.model.details = placeholder(int)  # 0 (both readings), n: the head weighs n scales of both sources' details.

    config.loss = ConfigDict()
    config.loss.reading = placeholder(str)  # None: that of the model.
    config.loss.lambda1 = 0.3  # Eq. 6.
    config.loss.lambda2 = 5.0  # Eq. 8; 0: no L_s at all.
    config.loss.epsilon = placeholder(float)  # Eq. 10: 1e-9 (paper), 1e-10 (released).
    config.loss.scope = placeholder(str)  # Masks and norms over each "image" (paper) or the "batch" (released).
    config.loss.saliency = placeholder(str)  # Eq. 6-7: "rms" (paper), "mse" (released).
    config.loss.weight_signs = placeholder(str)  # Eq. 9: "plus" (both readings), "printed" (the paper's erratum).
    config.loss.negatives = placeholder(str)  # Eq. 12: "released" (both), "printed" (an erratum), "none": D_pos alone.
    config.loss.domain = placeholder(str)  # Eq. 11: l1 in the "frequency" (both readings) or "spatial" domain.
    config.loss.adaptive_weights = placeholder(bool)  # Eq. 9: True (both); False: w = w~ = 1, with negatives "none".
    config.loss.auxiliary = placeholder(bool)  # Eq. 5: True (both readings), False: no L_SS, no auxiliary decoder.
    config.loss.ssim_window = placeholder(int)  # Eq. 13: 11 (paper), 3 (released).
    config.loss.ssim_padding = placeholder(str)  # Eq. 13: "valid" (paper), "reflect" (released).
    config.loss.ssim_loss = placeholder(str)  # Eq. 13: "one_minus" (paper), "half_clipped" (released).
    config.loss.contrastive = placeholder(float)  # Weight of L_c in Eq. 8; 1 (both readings), 0: none.
    config.loss.intensity = placeholder(float)  # Weight of |F - T|; 0 (both readings), as the next two.
    config.loss.target = placeholder(str)  # T: "maximum" (None) or "exposed_sum" of both sources.
    config.loss.texture = placeholder(float)  # Weight of |F's Sobel derivatives - those of the steeper source|.
    config.loss.difference_correlation = placeholder(float)  # Weight of 2 - SCD.

    config.data = ConfigDict()
    config.data.root = "data"  # A folder, or "synthetic": the embedded scenes.
    config.data.train = "train"  # Subfolders of the root; without them the root itself is split.
    config.data.validation = "val"
    config.data.sets = placeholder(tuple)  # Subfolders of the root, each laid out like one, to be joined; None: itself.
    config.data.functional = placeholder(str)  # The side that PET or SPECT plays beside MRI: "vis" (None), "ir".
    config.data.holdout = 0.1  # Share of the pairs kept for validation when the root is split; at least one pair.
    config.data.patches = 3383
    config.data.patch_size = 128
    config.data.skip_bad = False  # True: pairs that can't be used are named and left out; False: they are an error.
    config.data.augment = False  # True: each patch gets one of the 8 flips and quarter turns, drawn with the plan.
    config.data.resident = "auto"  # The pictures stay on the device: "on", "off"; "auto": on accelerators with room.
    config.data.scenes = 24  # Embedded scenes to train and to validate on.
    config.data.validation_scenes = 8
    config.data.source = "Any registered infrared and visible pictures will do."  # Where the set comes from.

    config.fusion = ConfigDict()  # Travels with the weights.
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
    config.log.checkpoint_every_steps = 500  # Besides those at validations; 0: none besides.
    # A field that does not exist is an error, in the files that build on this one, too.
    config.lock()
    return config


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


def _given(fields: ConfigDict) -> dict[str, Any]:
    """Without those that are None: the class's own defaults stay."""
    return {name: value for name, value in fields.items() if value is not None}
