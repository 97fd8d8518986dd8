"""A small network on the embedded scenes.

PLACEHOLDER
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "smoke"
    config.data.root = "synthetic"
    config.data.patches = 256
    config.data.patch_size = 64
    config.batch_size = 8
    config.steps = 100
    config.model.channels = 16
    config.model.stages = 2
    config.validation.every_epochs = 1000
    config.log.panels_every_steps = 50
    return config
