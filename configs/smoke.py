"""A small network on the embedded scenes.

Cost: 53 s on 2 cores of an AMD EPYC, 15 s of them compilation; no download.

Expect: on 8 unseen scenes EN 6.77, VIFp 0.43, Qabf 0.24; in the images warm people and cars from the infrared side,
signs, windows and road markings from the visible one, people seen through smoke, slightly soft.
"""

from rpfnet_jax.recipes.smoke import get_config

__all__ = ["get_config"]
