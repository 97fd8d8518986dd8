"""Clips: reading, pairing up and writing. Video files need PyAV (the extra `video`), folders of images do not."""

from rpfnet_jax.video.pair import FramePair, paired_frames
from rpfnet_jax.video.read import Clip, ClipError, Frame, open_clip
from rpfnet_jax.video.write import ClipWriter

__all__ = ["Clip", "ClipError", "ClipWriter", "Frame", "FramePair", "open_clip", "paired_frames"]
