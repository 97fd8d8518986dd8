"""The two rules that look at one pixel at a time."""

import numpy as np
from jaxtyping import Float32

from rpfnet_jax.baselines.checks import check_sources


def average(ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The mean of both sources: no artefacts, half the contrast.

    Args:
        ir: infrared picture, float32 (h, w) in [0, 1].
        vis_y: luminance of the visible picture, likewise.

    Returns:
        float32 (h, w) in [0, 1]; two equal sources come back exactly.

    Raises:
        ValueError: see `check_sources`.
    """
    check_sources(ir, vis_y)
    return (ir + vis_y) / np.float32(2)


def maximum(ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The brighter of both sources at each pixel: hot targets stay, dark texture goes.

    Args:
        ir: infrared picture, float32 (h, w) in [0, 1].
        vis_y: luminance of the visible picture, likewise.

    Returns:
        float32 (h, w) in [0, 1]; two equal sources come back exactly.

    Raises:
        ValueError: see `check_sources`.
    """
    check_sources(ir, vis_y)
    return np.maximum(ir, vis_y)
