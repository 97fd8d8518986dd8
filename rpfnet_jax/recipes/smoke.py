"""A small network on the embedded scenes.

Cost: 53 s on 2 cores of an AMD EPYC, 15 s of them compilation; no download.

Expect: on 8 unseen scenes EN 6.77, VIFp 0.43, Qabf 0.24; in the pictures warm people and cars from the infrared side,
signs, windows and road markings from the visible one, people seen through smoke, slightly soft.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import base


def get_config() -> ConfigDict:
    config = base.get_config()
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
