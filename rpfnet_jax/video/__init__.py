"""Clips: reading, pairing up and writing. Video files need PyAV (the extra `video`), folders of images do not."""

from rpfnet_jax.video.read import Clip, ClipError, open_clip, paired_frames
from rpfnet_jax.video.write import ClipWriter

__all__ = ["Clip", "ClipError", "ClipWriter", "open_clip", "paired_frames"]
