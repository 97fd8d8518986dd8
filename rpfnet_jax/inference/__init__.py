"""Fusing pictures: `load` weights, then fuse a pair, many pairs, or pictures too large for memory."""

from rpfnet_jax.inference.fuser import BaselineFuser, Fuser, ImageFuser, load
from rpfnet_jax.inference.sources import ImageInput, OutputType, Sources, open_pair, open_sources
from rpfnet_jax.inference.stream import Fused

__all__ = [
    "BaselineFuser",
    "Fused",
    "Fuser",
    "ImageFuser",
    "ImageInput",
    "OutputType",
    "Sources",
    "load",
    "open_pair",
    "open_sources",
]
