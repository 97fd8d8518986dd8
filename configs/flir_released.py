"""What the authors' released code trains, on FLIR (RoadScene): their network, losses and schedule.

PLACEHOLDER
"""

from ml_collections import ConfigDict

from configs import flir


def get_config() -> ConfigDict:
    config = flir.get_config()
    config.name = "flir_released"
    config.model.reading = "released"
    config.schedule.auxiliary_halvings = 0
    return config
