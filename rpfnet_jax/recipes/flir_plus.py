"""A recipe with better images than the paper's, from the same training pairs.

The paper's network without its norms. Its head corrects a base, `rpfnet_jax.ops.tone.exposed_sum`, and weights details
of both sources. Trained towards the steeper slope of either source and SSIM with both, on patches of which some are
darkened. docs/weights.md has the measurements.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import flir


def get_config(variant: str = "plus") -> ConfigDict:
    """Returns the recipe; `small` has half the channels and one stage instead of three.

    Raises:
        ValueError: unknown variant.
    """
    config = flir.get_config()
    config.name = "flir_plus"
    config.batch_size = 8
    config.steps = 600
    config.learning_rate = 2e-3
    config.schedule.shape = "cosine"
    config.schedule.warmup = 0.05
    config.average = 0.995
    config.darkening.vis = 0.4
    config.darkening.ir = 0.2
    # Statistics of the image turn night into fog, and stored statistics dim the day; without norms neither happens.
    config.model.norm = "none"
    config.model.base = "exposed_sum"
    config.model.details = 3
    config.loss.auxiliary = False
    config.loss.contrastive = 0.0
    config.loss.lambda2 = 3.0
    config.loss.intensity = 1.5
    config.loss.target = "exposed_sum"
    config.loss.texture = 4.0
    config.loss.difference_correlation = 0.5
    config.data.augment = True
    config.log.checkpoint_every_steps = 100
    if variant == "small":
        config.name = "flir_small"
        config.model.channels = 16
        config.model.stages = 1
    elif variant != "plus":
        raise ValueError(f"flir_plus has the variants plus and small, got {variant!r}")
    return config
