"""Better images than the paper's recipe, from the same training pairs: the recipe of the default weights.

Cost: 11 minutes on 2 cores of an AMD EPYC, about 1 s a step.

Expect: on flir/val, 40 pairs, standard protocol: EN 7.37, SF 12.9, SD 46.8, CC 0.649, SCD 1.83, VIFp 0.601, Qabf 0.513,
SSIM 1.401.
"""

from rpfnet_jax.recipes.flir_plus import get_config

__all__ = ["get_config"]
