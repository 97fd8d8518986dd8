"""Classical fusion to compare with: two pictures in, one out, nothing learned.

Every method takes the infrared picture and the luminance of the visible one, both float32 (h, w) in [0, 1] with
sides of at least `MIN_SIZE` pixels, odd and prime sizes included, and returns float32 (h, w) in [0, 1].
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from rpfnet_jax.baselines.checks import MIN_SIZE
from rpfnet_jax.baselines.guided import guided
from rpfnet_jax.baselines.pointwise import average, maximum
from rpfnet_jax.baselines.pyramid import laplacian

BASELINES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = MappingProxyType(
    {"average": average, "maximum": maximum, "laplacian": laplacian, "guided": guided}
)

__all__ = ["BASELINES", "MIN_SIZE", "average", "guided", "laplacian", "maximum"]
