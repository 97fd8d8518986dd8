"""The run that test_processes.py makes with one process and with two."""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import base


def process_config() -> ConfigDict:
    """Three steps: two batches of four patches, which four devices share, and one of two, which they can't."""
    config = base.get_config()
    config.name = "processes"
    config.data.root = "synthetic"
    config.data.scenes = 4
    config.data.validation_scenes = 1
    config.data.patches = 10
    config.data.patch_size = 32
    config.batch_size = 4
    config.steps = 3
    config.model.channels = 8
    config.model.stages = 1
    # What is tested is not the network: the parts that take longest to compile are left out.
    config.model.residual_prior = config.model.cpm = config.loss.auxiliary = False
    config.validation.every_epochs = 0
    config.log.panels_every_steps = 0
    return config
