"""Fusing pictures: `load` weights, then fuse a pair, many pairs, or pictures too large for memory."""

from rpfnet_jax.inference.base import PictureFuser
from rpfnet_jax.inference.baseline import BaselineFuser
from rpfnet_jax.inference.fuser import Fuser, load
from rpfnet_jax.inference.pictures import OutputType, Picture, Sources, open_pair, open_sources
from rpfnet_jax.inference.stream import Fused

__all__ = [
    "BaselineFuser",
    "Fused",
    "Fuser",
    "OutputType",
    "Picture",
    "PictureFuser",
    "Sources",
    "load",
    "open_pair",
    "open_sources",
]
