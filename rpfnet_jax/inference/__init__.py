"""Fusing pictures: `load` weights, `fuse` a pair or a folder."""

from rpfnet_jax.inference.folder import fuse_pairs
from rpfnet_jax.inference.fuser import Fuser, load

__all__ = ["Fuser", "fuse_pairs", "load"]
