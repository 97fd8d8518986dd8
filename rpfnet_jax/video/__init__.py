"""Clips and live sources: reading, pairing up and writing.

Video files and live sources need PyAV (the extra `video`), folders of images do not.
"""

from rpfnet_jax.video.live import LiveSource, live_pairs
from rpfnet_jax.video.pair import FramePair, paired_frames
from rpfnet_jax.video.read import Clip, ClipError, Frame, open_clip
from rpfnet_jax.video.write import ClipWriter

__all__ = [
    "Clip",
    "ClipError",
    "ClipWriter",
    "Frame",
    "FramePair",
    "LiveSource",
    "live_pairs",
    "open_clip",
    "paired_frames",
]
