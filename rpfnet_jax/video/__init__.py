"""Clips: reading, pairing up and writing."""

from rpfnet_jax.video.read import Clip, ClipError, open_clip, paired_frames
from rpfnet_jax.video.write import ClipWriter

__all__ = ["Clip", "ClipError", "ClipWriter", "open_clip", "paired_frames"]
