"""A small network on the embedded scenes: a complete run within a minute, without any download."""

from ml_collections import ConfigDict

from rpfnet_jax.model import Reading
from rpfnet_jax.recipes import base


def get_config(reading: Reading = "paper") -> ConfigDict:
    """Returns the recipe in either reading."""
    config = base.get_config(reading)
    config.name = "smoke"
    config.data.root = "synthetic"
    config.data.patches = 256
    config.data.patch_size = 64
    config.batch_size = 4
    config.steps = 100
    config.learning_rate = 2e-3
    config.model.channels = 16
    config.model.stages = 2
    config.validation.every_epochs = 0
    config.validation.pairs = 2
    config.log.panels_every_steps = 0
    return config
