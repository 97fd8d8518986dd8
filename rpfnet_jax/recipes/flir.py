"""The paper's recipe on FLIR (RoadScene): 180 training and 40 validation pairs, in either reading."""

from ml_collections import ConfigDict

from rpfnet_jax.model import Reading
from rpfnet_jax.recipes import base


def get_config(reading: Reading = "paper") -> ConfigDict:
    """Returns the recipe in the `paper` reading (the equations) or the `released` one (the authors' code)."""
    config = base.get_config(reading)
    config.name = "flir"
    config.data.root = "data/flir"
    config.data.source = (
        "`rpfnet data flir` downloads the set. It is RoadScene in the split of AUIF/DIDFuse: "
        "github.com/Zhaozixiang1228/IVIF-DIDFuse, folders Datasets/Train_data_FLIR (180 pairs) and "
        "Datasets/Test_data_FLIR (40 pairs, for validation)."
    )
    if reading == "released":
        config.name = "flir_released"
        # The authors' code halves only the fusion network's rate.
        config.schedule.auxiliary_halvings = 0
    return config
