"""Reading clips: a video file, by way of PyAV, or a folder of numbered images; and pairing two of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import UInt8

from rpfnet_jax.data.images import ImageError, read_image
from rpfnet_jax.data.pairs import IMAGE_SUFFIXES
from rpfnet_jax.files import FileError, one_line

Frame = UInt8[np.ndarray, "h w 3"]

_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)
# Containers round frame rates in the fifth digit; 29.97 and 30 differ in the third.
_SAME_RATE = 1e-4


class ClipError(FileError):
    """A clip that cannot be read or written, or two that do not belong together."""


@dataclass(frozen=True)
class Clip:
    """A clip on disk; iterating over it reads the frames, each time from the start.

    Frames are RGB; grey is repeated in the three channels, more than 8 bits are reduced to 8, and the rotation that
    phones note in a file is applied. Iterating raises `ClipError` where the clip is damaged, ends more than one frame
    too early or changes its size.

    Attributes:
        path: The file or folder.
        shape: (h, w) of the frames.
        fps: Frames per second; None for a folder whose rate was not given.
        count: Number of frames: exact for a folder, from the header for a file; None where the header lacks it
            (Matroska).
        images: The files of a folder in order; empty for a video file.
    """

    path: Path
    shape: tuple[int, int]
    fps: Fraction | None
    count: int | None
    images: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(_frames(self.path, self.images)):
            if frame.shape[:2] != self.shape:
                raise ClipError(self.path, f"frame {index} is {_size(frame.shape)}, the first {_size(self.shape)}")
            yield frame


def open_clip(path: str | Path, *, fps: Fraction | float | int | None = None) -> Clip:
    """Reads a clip's header and decodes its first frame.

    Args:
        path: A video file, or a folder of images with one number each, such as `0111_0001.png`. The last number in a
            name counts; everything else must be the same in all names. Hidden files and files that are not images are
            ignored.
        fps: Frames per second of a folder; replaces the rate of a video file.

    Raises:
        ClipError: If the clip is missing, empty or unreadable; if a folder holds different names, a number twice or
            not all numbers (constant steps are fine); if `fps` is not positive.
        ImportError: If `path` is a file and PyAV is missing.
    """
    path = Path(path)
    rate = None if fps is None else frame_rate(path, fps)
    images: tuple[Path, ...] = ()
    if path.is_dir():
        images = _numbered_images(path)
        count: int | None = len(images)
    elif path.is_file():
        own_rate, count = _read_header(path)
        rate = rate or own_rate
    else:
        raise ClipError(path, "no such file or folder")
    first = next(_frames(path, images), None)
    if first is None:
        raise ClipError(path, "holds no frame; it may be cut short")
    return Clip(path, (first.shape[0], first.shape[1]), rate, count, images)


def paired_frames(ir: Clip, vis: Clip, *, same_size: bool = True) -> Iterator[tuple[Frame, Frame]]:
    """Reads an infrared and a visible clip in step, frame by frame.

    Sizes, rates and counts are compared at once, before the first frame is read.

    Args:
        ir: The infrared clip.
        vis: The visible clip.
        same_size: Whether frames must have one size; False for clips that are still to be registered.

    Returns:
        Iterator over (infrared frame, visible frame).

    Raises:
        ClipError: If sizes, frame rates (where both are known) or numbers of frames differ; the message gives both
            numbers. The last is also raised while iterating, where one clip ends before the other. See also `Clip`.
    """
    if same_size and ir.shape != vis.shape:
        raise ClipError(ir.path, f"frames are {_size(ir.shape)}, those of {vis.path} {_size(vis.shape)}")
    if ir.fps and vis.fps and abs(ir.fps / vis.fps - 1) > _SAME_RATE:
        raise ClipError(ir.path, f"{float(ir.fps):.6g} frames per second, {vis.path} has {float(vis.fps):.6g}")
    # The count of a file is rounded; whether the clips end together is only known at their ends.
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


def frame_rate(path: Path, fps: Fraction | float | int) -> Fraction:
    """Returns the nearest fraction with a denominator up to 1001 (30000/1001 is NTSC's rate).

    Raises:
        ClipError: If `fps` is not a positive finite number; the message names the clip's `path`.
    """
    rate = Fraction(fps).limit_denominator(1001) if np.isfinite(float(fps)) else Fraction(0)
    if rate <= 0:
        raise ClipError(path, f"frames per second must be a positive number, got {fps}")
    return rate


def pyav() -> ModuleType:
    """Imports PyAV, which is optional; raises ImportError with the command that installs it."""
    try:
        import av
    except ImportError as error:
        raise ImportError('video files need PyAV: pip install "rpfnet-jax[video]"') from error
    return av


def _frames(path: Path, images: tuple[Path, ...]) -> Iterator[Frame]:
    return _image_frames(images) if images else _video_frames(path)


def _numbered_images(folder: Path) -> tuple[Path, ...]:
    """Finds the images of a folder by rising number, at least one; opens no file."""
    found: dict[int, Path] = {}
    names = set()
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise ClipError(folder, f"cannot be listed: {one_line(error)}") from error
    for file in files:
        if file.name.startswith(".") or file.suffix.lower() not in IMAGE_SUFFIXES or not file.is_file():
            continue
        match = _NUMBERED.fullmatch(file.stem)
        if match is None:
            raise ClipError(folder, f"{file.name} has no number; the frames of a clip are numbered")
        names.add((match[1], match[3]))
        if len(names) > 1:
            other = next(iter(found.values())).name
            raise ClipError(folder, f"more than one clip: {other} and {file.name} differ in more than the number")
        if int(match[2]) in found:
            raise ClipError(folder, f"frame {int(match[2])} twice: {found[int(match[2])].name} and {file.name}")
        found[int(match[2])] = file
    if not found:
        raise ClipError(folder, "holds no images")
    numbers = sorted(found)
    steps = np.diff(numbers)
    if len(steps) and steps.max() > steps.min():
        gap = int(steps.argmax())
        raise ClipError(folder, f"frames are missing between {numbers[gap]} and {numbers[gap + 1]}")
    return tuple(found[number] for number in numbers)


def _image_frames(images: tuple[Path, ...]) -> Iterator[Frame]:
    for path in images:
        try:
            image = read_image(path)
        except ImageError as error:
            raise ClipError(error.path, error.reason) from error
        yield image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _read_header(path: Path) -> tuple[Fraction | None, int | None]:
    """Reads frames per second, and their number as duration times mean rate; None where the header lacks it."""
    av = pyav()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ClipError(path, "holds no video")
            stream = container.streams.video[0]
            rate, duration = stream.average_rate, stream.duration
            # Matroska stores the nominal rate, which is not that of clips with an uneven pace.
            if rate is None or duration is None or "matroska" in container.format.name:
                return rate, None
            return rate, round(duration * stream.time_base * rate)
    except av.FFmpegError as error:
        raise ClipError(path, f"cannot be read as a video: {one_line(error)}") from error


def _video_frames(path: Path) -> Iterator[Frame]:
    """Decodes the first video stream one frame at a time.

    Raises:
        ClipError: If data are damaged, or the last frame is more than one frame short of the end in the header.
    """
    av = pyav()
    read, first, last = 0, None, None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                pixels = frame.to_ndarray(format="rgb24")
                last = frame.time
                first = last if first is None else first
                yield np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))
                read += 1
            rate, end = stream.average_rate, _promised_end(container, stream)
    except av.FFmpegError as error:
        raise ClipError(path, f"damaged or cut short after {read} frames: {one_line(error)}") from error
    # A complete clip has one frame left here, the last one; time stamps are rounded.
    if rate and end and last is not None and (end - (last - first)) * rate > 2.5:
        raise ClipError(path, f"cut short: ends after {read} of about {round(end * rate)} frames")


def _promised_end(container, stream) -> Fraction | None:
    """Reads the seconds from the first frame to the end of the last one from the header."""
    if stream.duration is not None:
        return stream.duration * stream.time_base
    # Matroska only stores the length of the longest stream.
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}\u00d7{shape[1]}"
