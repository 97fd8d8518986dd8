"""Reading clips: a video file, by way of PyAV, or a folder of numbered images."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rpfnet_jax.data.images import read_stored
from rpfnet_jax.data.pairs import IMAGE_SUFFIXES
from rpfnet_jax.data.pixels import ImageError, StoredImage
from rpfnet_jax.files import FileError, one_line
from rpfnet_jax.runtime import require

# Frames per second where nothing else is known.
DEFAULT_RATE = Fraction(25)

_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)


class ClipError(FileError):
    """A clip that cannot be read or written, or two that do not belong together."""


class Frame(NamedTuple):
    """One frame of a clip.

    Attributes:
        number: Its place in the clip, counted from 0.
        time: Seconds since the first frame of the clip; of a live source, when it arrived, by `time.monotonic`.
        image: See `Clip`.
    """

    number: int
    time: Fraction
    image: StoredImage


@dataclass(frozen=True)
class Clip:
    """A clip on disk; iterating over it reads the frames, each time from the start.

    Images of a video file are 8-bit RGB, but grey of more than 8 bits keeps its values; those of a folder are as
    stored, without opacity. 8-bit grey is repeated in the three channels, and the rotation noted in a file is applied.
    Iterating raises `ClipError` where the clip is damaged, ends more than one frame too early or changes its size.

    Attributes:
        path: The file or folder.
        shape: (h, w) of the frames.
        fps: Frames per second, on average; None for a folder whose rate was not given.
        count: Number of frames: exact for a folder, from the header for a file; None where the header lacks it
            (Matroska, MPEG-TS).
        time_base: Unit of the frames' times, in seconds.
        stamped: Whether frames have time stamps of their own; if not (folders, AVI and raw streams, or where the caller
            gave a rate), frame `i` is shown at `i / fps`.
        start: Time of the first frame in the file, in seconds; None for folders and where the caller gave a rate.
        sound: Whether the file has sound.
        images: The files of a folder in order; empty for a video file.
    """

    path: Path
    shape: tuple[int, int]
    fps: Fraction | None
    count: int | None
    time_base: Fraction
    stamped: bool = False
    start: Fraction | None = None
    sound: bool = False
    images: tuple[Path, ...] = ()

    @property
    def rate(self) -> Fraction:
        """Frames per second, 25 if they are not known."""
        return self.fps or DEFAULT_RATE

    def __iter__(self) -> Iterator[Frame]:
        previous, start, warned = None, self.start or Fraction(0), False
        for index, (stamp, image) in enumerate(_frames(self.path, self.images)):
            shape = image.pixels.shape[:2]
            if shape != self.shape:
                raise ClipError(self.path, f"frame {index} is {size(shape)}, the first {size(self.shape)}")
            time = index / self.rate
            if self.stamped and previous is not None:
                time = previous + 1 / self.rate
                if stamp is not None and stamp - start > previous:
                    time = stamp - start
                elif not warned:
                    warned = True
                    warnings.warn(
                        f"{self.path}: frame {index} has no time stamp after that of the frame before; such frames are "
                        f"spaced by {float(self.rate):.6g} per second",
                        stacklevel=2,
                    )
            previous = time
            yield Frame(index, time, image)


def open_clip(path: str | Path, *, fps: Fraction | float | int | None = None) -> Clip:
    """Reads a clip's header and decodes its first frame.

    Args:
        path: A video file, or a folder of images with one number each, such as `0111_0001.png`. The last number in a
            name counts; everything else must be the same in all names. Hidden files and files that are not images are
            ignored, and so are cover images inside a video file.
        fps: Frames per second of a folder; replaces the time stamps of a video file.

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
        header = _Header(rate, len(images))
    elif path.is_file():
        header = _read_header(path)
    else:
        raise ClipError(path, "no such file or folder")
    first = next(_frames(path, images), None)
    if first is None:
        raise ClipError(path, "holds no frame; it may be cut short")
    stamp, image = first
    fps = rate or header.fps
    stamped = rate is None and stamp is not None
    return Clip(
        path,
        (image.pixels.shape[0], image.pixels.shape[1]),
        fps,
        header.length,
        header.time_base if stamped else 1 / (fps or DEFAULT_RATE),
        stamped,
        None if images or rate else stamp or Fraction(0),
        header.sound,
        images,
    )


def frame_rate(path: Path, fps: Fraction | float | int) -> Fraction:
    """Returns the nearest fraction with a denominator up to 1001 (30000/1001 is NTSC's rate).

    Raises:
        ClipError: If `fps` is not a positive finite number; the message names the clip's `path`.
    """
    rate = Fraction(fps).limit_denominator(1001) if np.isfinite(float(fps)) else Fraction(0)
    if rate <= 0:
        raise ClipError(path, f"frames per second must be a positive number, got {fps}")
    return rate


def _frames(path: Path, images: tuple[Path, ...]) -> Iterator[tuple[Fraction | None, StoredImage]]:
    """Decodes frames one at a time: (time stamp in seconds or None, image)."""
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


def _image_frames(images: tuple[Path, ...]) -> Iterator[tuple[None, StoredImage]]:
    for path in images:
        try:
            image = read_stored(path)
        except ImageError as error:
            raise ClipError(error.path, error.reason) from error
        pixels = image.pixels
        if pixels.ndim == 2 and pixels.dtype == np.uint8:
            pixels = np.dstack([pixels] * 3)
        yield None, replace(image, pixels=pixels, alpha=None)


class _Header(NamedTuple):
    """What a file says of its frames; see `Clip`."""

    fps: Fraction | None
    length: int | None
    time_base: Fraction = 1 / DEFAULT_RATE
    sound: bool = False


def _read_header(path: Path) -> _Header:
    av = require("video")
    try:
        with av.open(str(path)) as container:
            stream = video_stream(container)
            if stream is None:
                raise ClipError(path, "holds no video")
            if container.format.name == "image2" or container.format.name.endswith("_pipe"):
                raise ClipError(path, "a single image; a clip is a video file or a folder of numbered images")
            sound = bool(container.streams.audio)
            return _Header(stream.average_rate, stream.frames or None, stream.time_base, sound)
    except av.FFmpegError as error:
        raise ClipError(path, f"cannot be read as a video: {one_line(error)}") from error


def video_stream(container: Any) -> Any:
    """Returns the first video stream that is not an attached cover image, None if there is none."""
    cover = require("video").stream.Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def _video_frames(path: Path) -> Iterator[tuple[Fraction | None, StoredImage]]:
    """Decodes a video file one frame at a time.

    Raises:
        ClipError: If data are damaged, or the last frame ends more than one frame before the end in the header.
    """
    av = require("video")
    read, first, last, lasts = 0, None, None, Fraction(0)
    try:
        with av.open(str(path)) as container:
            stream = video_stream(container)
            # AVI has no presentation times: what decoded frames carry are those of other frames.
            stamped = container.format.name != "avi"
            for frame in container.decode(stream):
                stamp = frame.pts * frame.time_base if stamped and frame.pts is not None else None
                if stamp is not None:
                    first, last, lasts = stamp if first is None else first, stamp, frame.duration * frame.time_base
                yield stamp, upright_image(frame, path)
                read += 1
            rate, end, count = stream.average_rate, _promised_end(container, stream), stream.frames
    except av.FFmpegError as error:
        raise ClipError(path, f"damaged or cut short after {read} frames: {one_line(error)}") from error
    # Half a frame of tolerance, beyond the one that may be missing, because time stamps are rounded.
    if last is not None and rate and end:
        missing = (end - (last - first) - max(lasts, 1 / rate)) * rate - Fraction(1, 2)
        count = round(end * rate)
    else:
        missing = count - read
    if missing > 1:
        raise ClipError(path, f"cut short: ends after {read} of about {count} frames")


def upright_image(frame: Any, path: Path | None = None) -> StoredImage:
    """Converts a decoded frame as `Clip` describes; `path` is for messages."""
    bits = max(component.bits for component in frame.format.components)
    layout: str | None = "rgb24"
    white = None
    if frame.format.name.startswith("grayf"):
        layout = "grayf32le"
    elif frame.format.name.startswith("gray") and bits > 8:
        layout, white = None, 2**bits - 1
    pixels = frame.to_ndarray(format=layout)
    return StoredImage.of(np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90)), white, path=path)


def _promised_end(container, stream) -> Fraction | None:
    """Reads the seconds from the first frame to the end of the last one from the header."""
    if stream.duration is not None:
        return stream.duration * stream.time_base
    # Matroska only stores the length of the longest stream.
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def size(shape: tuple[int, ...]) -> str:
    """Formats height and width for messages."""
    return f"{shape[0]}\u00d7{shape[1]}"
