"""Clips: video files and folders of numbered pictures, frame by frame, and writing them.

Video files need PyAV (``pip install "rpfnet-jax[video]"``); folders of pictures do not. Never more than a few
frames are in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rpfnet_jax.data.video_sources import (
    ClipError,
    Frame,
    frame_rate,
    numbered_pictures,
    picture_frames,
    read_header,
    video_frames,
)
from rpfnet_jax.data.video_writer import ClipWriter

__all__ = ["Clip", "ClipError", "ClipWriter", "Frame", "open_clip", "paired_frames"]

# Containers round frame rates in the fifth digit; 29.97 and 30 differ in the third.
_SAME_RATE = 1e-4


@dataclass(frozen=True)
class Clip:
    """A clip on disk; iterating over it reads the frames, each time from the start.

    Frames are uint8 of shape (h, w, 3), RGB; grey is repeated in the three channels, more than 8 bits are
    reduced to 8 and the rotation that phones note in a file is applied. Iterating raises `ClipError` where the
    clip is damaged, ends more than one frame too early or changes its size.

    Attributes:
        path: The file or folder.
        shape: (h, w) of the frames.
        fps: Frames per second; None for a folder whose rate was not given.
        count: Number of frames: of a folder exact, of a file what its header promises, None if it doesn't
            (Matroska).
        pictures: The files of a folder in order; empty for a video file.
    """

    path: Path
    shape: tuple[int, int]
    fps: Fraction | None
    count: int | None
    pictures: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        frames = picture_frames(self.pictures) if self.pictures else video_frames(self.path)
        for index, frame in enumerate(frames):
            if frame.shape[:2] != self.shape:
                raise ClipError(self.path, f"frame {index} is {_size(frame.shape)}, the first {_size(self.shape)}")
            yield frame


def open_clip(path: str | Path, *, fps: Fraction | float | int | None = None) -> Clip:
    """Looks at a clip and decodes its first frame.

    Args:
        path: A video file, or a folder of pictures with one number each, such as ``0111_0001.png``; the last
            number in a name counts, everything else must be the same in all names. Hidden files and files that
            are no pictures are ignored.
        fps: Frames per second of a folder; for a video file it takes the place of its own.

    Returns:
        The clip.

    Raises:
        ClipError: If the clip is missing, empty or unreadable; if a folder holds different names, a number
            twice or not all numbers (constant steps are fine); if `fps` is not positive.
        ImportError: If `path` is a file and PyAV is missing.
    """
    path = Path(path)
    rate = None if fps is None else frame_rate(path, fps)
    pictures: tuple[Path, ...] = ()
    if path.is_dir():
        pictures = numbered_pictures(path)
        count: int | None = len(pictures)
    elif path.is_file():
        own_rate, count = read_header(path)
        rate = rate or own_rate
    else:
        raise ClipError(path, "no such file or folder")
    first = next(picture_frames(pictures) if pictures else video_frames(path), None)
    if first is None:
        raise ClipError(path, "holds no frame; it may be cut short")
    return Clip(path, (first.shape[0], first.shape[1]), rate, count, pictures)


def paired_frames(ir: Clip, vis: Clip, *, same_size: bool = True) -> Iterator[tuple[Frame, Frame]]:
    """Reads an infrared and a visible clip in step, frame by frame.

    What the headers tell is compared at once, before the first frame is asked for.

    Args:
        ir: The infrared clip.
        vis: The visible clip.
        same_size: Whether frames must have one size; False for clips that are still to be registered.

    Returns:
        Iterator over (infrared frame, visible frame).

    Raises:
        ClipError: If sizes, frame rates (where both are known) or numbers of frames differ, with both numbers;
            the last also while iterating, when one clip ends before the other. See also :class:`Clip`.
    """
    if same_size and ir.shape != vis.shape:
        raise ClipError(ir.path, f"frames are {_size(ir.shape)}, those of {vis.path} {_size(vis.shape)}")
    if ir.fps and vis.fps and abs(ir.fps / vis.fps - 1) > _SAME_RATE:
        raise ClipError(ir.path, f"{float(ir.fps):.6g} frames per second, {vis.path} has {float(vis.fps):.6g}")
    # The count of a file is rounded; whether the clips end together shows at the end.
    if ir.count is not None and vis.count is not None and abs(ir.count - vis.count) > 1:
        raise ClipError(ir.path, f"{ir.count} frames, {vis.path} has {vis.count}")
    return _in_step(ir, vis)


def _in_step(ir: Clip, vis: Clip) -> Iterator[tuple[Frame, Frame]]:
    ir_frames, vis_frames = iter(ir), iter(vis)
    read = 0
    while True:
        pair = next(ir_frames, None), next(vis_frames, None)
        if pair[0] is None and pair[1] is None:
            return
        if pair[0] is None or pair[1] is None:
            ended, longer = (ir, vis) if pair[0] is None else (vis, ir)
            promised = "" if longer.count is None else f" (its header promises {longer.count})"
            raise ClipError(ended.path, f"ends after {read} frames, {longer.path} goes on{promised}")
        yield pair[0], pair[1]
        read += 1


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}\u00d7{shape[1]}"
