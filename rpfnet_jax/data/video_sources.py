"""Where the frames of a clip come from: a video file, by way of PyAV, or a folder of numbered pictures."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import UInt8

from rpfnet_jax.data.errors import FileError
from rpfnet_jax.data.images import ImageError, read_image
from rpfnet_jax.data.pairs import IMAGE_SUFFIXES
from rpfnet_jax.failure import one_line

Frame = UInt8[np.ndarray, "h w 3"]

_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)


class ClipError(FileError):
    """A clip that cannot be read or written, or two that do not belong together."""


def frame_rate(path: Path, fps: Fraction | float | int) -> Fraction:
    """A frame rate as a fraction.

    Args:
        path: The clip, for the message.
        fps: Frames per second.

    Returns:
        The nearest fraction with a denominator up to 1001 (30000/1001 is NTSC's rate).

    Raises:
        ClipError: If `fps` is not a positive finite number.
    """
    rate = Fraction(fps).limit_denominator(1001) if np.isfinite(float(fps)) else Fraction(0)
    if rate <= 0:
        raise ClipError(path, f"frames per second must be a positive number, got {fps}")
    return rate


def pyav() -> ModuleType:
    """PyAV, which is optional.

    Returns:
        The module ``av``.

    Raises:
        ImportError: Telling how to install it.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError('video files need PyAV: pip install "rpfnet-jax[video]"') from error
    return av


def numbered_pictures(folder: Path) -> tuple[Path, ...]:
    """Finds the frames of a folder; no file is opened.

    Args:
        folder: Holds pictures whose names differ in one number only; other files are ignored.

    Returns:
        The pictures by rising number; at least one.

    Raises:
        ClipError: If there are none, a name has no number, names differ otherwise, a number occurs twice or the
            steps between the numbers are not all the same.
    """
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
        raise ClipError(folder, "holds no pictures")
    numbers = sorted(found)
    steps = np.diff(numbers)
    if len(steps) and steps.max() > steps.min():
        gap = int(steps.argmax())
        raise ClipError(folder, f"frames are missing between {numbers[gap]} and {numbers[gap + 1]}")
    return tuple(found[number] for number in numbers)


def picture_frames(pictures: tuple[Path, ...]) -> Iterator[Frame]:
    """Decodes pictures one at a time.

    Args:
        pictures: Files in order.

    Yields:
        uint8 of shape (h, w, 3), RGB.

    Raises:
        ClipError: Naming the picture that cannot be read.
    """
    for path in pictures:
        try:
            image = read_image(path)
        except ImageError as error:
            raise ClipError(error.path, error.reason) from error
        yield image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def read_header(path: Path) -> tuple[Fraction | None, int | None]:
    """Reads what a video file tells about itself.

    Args:
        path: The file.

    Returns:
        Frames per second, and the number of frames (duration times mean rate, rounded); None for what it doesn't
        tell.

    Raises:
        ClipError: If it is no video file.
    """
    av = pyav()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ClipError(path, "holds no video")
            stream = container.streams.video[0]
            rate, duration = stream.average_rate, stream.duration
            # Matroska notes the nominal rate, of which clips with an uneven pace miss frames.
            if rate is None or duration is None or "matroska" in container.format.name:
                return rate, None
            return rate, round(duration * stream.time_base * rate)
    except av.FFmpegError as error:
        raise ClipError(path, f"cannot be read as a video: {one_line(error)}") from error


def _promised_end(container, stream) -> Fraction | None:
    """Seconds from the first frame to the end of the last one, as the header tells."""
    if stream.duration is not None:
        return stream.duration * stream.time_base
    # Matroska tells the length of the longest stream only.
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def video_frames(path: Path) -> Iterator[Frame]:
    """Decodes the first video stream of a file one frame at a time.

    Args:
        path: The file, which :func:`read_header` has accepted.

    Yields:
        uint8 of shape (h, w, 3), RGB, upright.

    Raises:
        ClipError: If data are damaged, or the last frame is more than one frame short of the promised end.
    """
    av = pyav()
    read, first, last = 0, None, None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                picture = frame.to_ndarray(format="rgb24")
                last = frame.time
                first = last if first is None else first
                yield np.ascontiguousarray(np.rot90(picture, frame.rotation // 90))
                read += 1
            rate, end = stream.average_rate, _promised_end(container, stream)
    except av.FFmpegError as error:
        raise ClipError(path, f"damaged or cut short after {read} frames: {one_line(error)}") from error
    # Complete clips have one frame left here, the last one; time stamps are rounded.
    if rate and end and last is not None and (end - (last - first)) * rate > 2.5:
        raise ClipError(path, f"cut short: ends after {read} of about {round(end * rate)} frames")
