"""The paper's recipe in the paper's reading, on FLIR (RoadScene): 180 training and 40 validation pairs.

PLACEHOLDER
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "flir"
    config.data.root = "data/flir"
    config.data.source = (
        "The FLIR set of the paper is RoadScene in the split of AUIF/DIDFuse: github.com/Zhaozixiang1228/IVIF-DIDFuse, "
        "folders Datasets/Train_data_FLIR (180 pairs) and Datasets/Test_data_FLIR (40 pairs, for validation)."
    )
    return config
