"""The small sibling of `flir_plus`: half the channels, two stages instead of three, otherwise the same recipe.

Cost: SMALL_COST

Expect: SMALL_EXPECT
"""

from ml_collections import ConfigDict

from configs import flir_plus


def get_config() -> ConfigDict:
    config = flir_plus.get_config()
    config.name = "flir_small"
    config.model.channels = 16
    config.model.stages = 2
    return config
