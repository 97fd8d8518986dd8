"""The paper's recipe in the paper's reading, on FLIR (RoadScene): 180 training and 40 validation pairs.

configs/flir.py:released is configs/flir_released.py.

Cost: 21,200 steps at batch 16 (100 epochs of 3,383 patches). On 2 cores of an AMD EPYC a step takes about 2 s, and
1 s at batch 8 (docs/performance.md), so that 300 steps at batch 8 take five minutes and the whole run half a day. Not
measured on a GPU.

Expect: after 300 steps at batch 8 (--config.steps=300 --config.batch_size=8) on flir/val, 40 pairs, standard protocol:
EN 7.02, SF 10.97, SD 35.2, CC 0.645, SCD 1.44, VIFp 0.506, Qabf 0.402, SSIM 1.383. The paper's 100 epochs: EN 7.43.
The fields of the weights that come with the package, 1,200 steps: docs/weights.md.
"""

from rpfnet_jax.recipes.flir import get_config

__all__ = ["get_config"]
