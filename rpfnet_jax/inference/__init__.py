"""Image fusion: `load` weights, then fuse one pair, many pairs, folders of files, or images too large for memory."""

from rpfnet_jax.inference.base import Fused, ImageFuser
from rpfnet_jax.inference.folders import FileResult, Preparation, fuse_files
from rpfnet_jax.inference.fuser import BaselineFuser, Cost, Fuser, TiledFuser, fusion_cost, load
from rpfnet_jax.inference.sources import ImageInput, OutputType, Sources, open_pair, open_sources

__all__ = [
    "BaselineFuser",
    "Cost",
    "FileResult",
    "Fused",
    "Fuser",
    "ImageFuser",
    "ImageInput",
    "OutputType",
    "Preparation",
    "Sources",
    "TiledFuser",
    "fuse_files",
    "fusion_cost",
    "load",
    "open_pair",
    "open_sources",
]
