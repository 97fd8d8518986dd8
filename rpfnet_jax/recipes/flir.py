"""The paper's recipe in the paper's reading, on FLIR (RoadScene): 180 training and 40 validation pairs.

Cost: 21,200 steps at batch 16 (100 epochs of 3,383 patches). On 2 cores of an AMD EPYC a step at batch 8 takes about
4 s and 4 GB, so that 300 steps are done in half an hour and the whole run is one for a GPU. Not measured on a GPU.

Expect: after 300 steps at batch 8 (--config.steps=300 --config.batch_size=8) on flir/val, 40 pairs, standard protocol:
EN 7.02, SF 10.97, SD 35.2, CC 0.645, SCD 1.44, VIFp 0.506, Qabf 0.402, SSIM 1.383. The paper's 100 epochs: EN 7.43.
The fields of the weights that come with the package, 1,200 steps: docs/weights.md.
"""

from ml_collections import ConfigDict

from rpfnet_jax.recipes import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "flir"
    config.data.root = "data/flir"
    config.data.source = (
        "The FLIR set of the paper is RoadScene in the split of AUIF/DIDFuse: github.com/Zhaozixiang1228/IVIF-DIDFuse, "
        "folders Datasets/Train_data_FLIR (180 pairs) and Datasets/Test_data_FLIR (40 pairs, for validation). "
        "`rpfnet data flir` downloads it."
    )
    return config
