"""The classical methods behind the interface of the network, for comparison."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped

from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.color import ColorRange
from rpfnet_jax.inference.base import PictureFuser


class BaselineFuser(PictureFuser):
    """A method of `rpfnet_jax.baselines` that takes pictures.

    Args:
        method: its name there.
        color_range: see `PictureFuser`.

    Raises:
        ValueError: there is no such method; the message lists them.
    """

    def __init__(self, method: str, color_range: ColorRange = "full"):
        if method not in BASELINES:
            raise ValueError(f"method must be one of {', '.join(BASELINES)}; got {method!r}")
        self.method = BASELINES[method]
        self.color_range = color_range

    def start(self, ir: Shaped[np.ndarray, "b h w"], vis_y: Shaped[np.ndarray, "b h w"]) -> np.ndarray:
        """See `PictureFuser.start`; does not return before the work is done."""
        return np.stack([self.method(*pair) for pair in zip(ir, vis_y, strict=True)])
