"""Live sources: cameras and streams, whose frames are paired by when they arrive."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

from rpfnet_jax.files import one_line
from rpfnet_jax.runtime import require
from rpfnet_jax.video.pair import FramePair, FrameThread, nearest_frames
from rpfnet_jax.video.read import DEFAULT_RATE, Frame, size, upright_image, video_stream

# Seconds without data after which a network stream counts as broken.
_TIMEOUT = 10.0
# The last infrared frame is as old as one frame; arrival times vary, and the rates that streams announce are guesses.
_TOLERANCE = Fraction(3, 2)
_LEAST_TOLERANCE = Fraction(1, 10)


@runtime_checkable
class Source(Protocol):
    """What gives live frames, with rising times in seconds of `time.monotonic`."""

    url: str
    rate: Fraction

    def __iter__(self) -> Iterator[Frame]: ...


class LiveSource:
    """An open camera or stream; iterating over it gives its frames as they arrive.

    Args:
        url: Whatever FFmpeg opens: a device, a URL such as `rtsp://...`, a named pipe; `-` is the standard input.
        options: Options of FFmpeg for it, such as `framerate`; `format` names the input format, which devices need.

    Attributes:
        url: As given.
        rate: Frames per second as announced, 25 if they are not.

    Raises:
        ValueError: If it cannot be opened or has no video; while iterating, if it fails or is silent for 10 seconds.
        ImportError: If PyAV is missing.
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None):
        self.url, self._av = url, require("video")
        options = dict(options or {})
        kind = options.pop("format", None)
        try:
            self._container = self._av.open(
                "pipe:0" if url == "-" else url, format=kind, options=options, timeout=_TIMEOUT
            )
        except (self._av.FFmpegError, ValueError) as error:
            raise ValueError(f"{url}: cannot be opened: {one_line(error)}") from error
        self._stream = video_stream(self._container)
        if self._stream is None:
            raise ValueError(f"{url}: holds no video")
        self.rate: Fraction = self._stream.average_rate or DEFAULT_RATE

    def __iter__(self) -> Iterator[Frame]:
        try:
            with self._container:
                for number, frame in enumerate(self._container.decode(self._stream)):
                    arrival = Fraction(time.monotonic_ns(), 10**9)
                    yield Frame(number, arrival, upright_image(frame))
        except self._av.error.ExitError as error:
            raise ValueError(f"{self.url}: nothing has come for {_TIMEOUT:.0f} s") from error
        except self._av.FFmpegError as error:
            raise ValueError(f"{self.url}: {one_line(error)}") from error


def live_pairs(ir: Source, vis: Source) -> Generator[FramePair, None, None]:
    """Pairs the newest visible frame with the last infrared frames, whenever the next pair is asked for.

    Each source is read in a thread of its own. What arrives in the meantime is dropped, so that a slow reader gets
    fewer frames and no old ones. A visible frame does not wait for a later infrared frame. If no infrared frame came
    within 0.1 seconds, or one and a half frames of the slower source if that is longer, it is dropped, too. Ends where
    one of the sources ends.

    Raises:
        ValueError: While iterating, if the frames of the sources differ in size; see also `LiveSource`.
    """
    tolerance = max(_TOLERANCE / min(ir.rate, vis.rate), _LEAST_TOLERANCE)
    with (
        closing(FrameThread(ir, 2, live=True)) as ir_frames,
        closing(FrameThread(vis, 1, live=True)) as vis_frames,
    ):
        for infrared, visible in nearest_frames(ir_frames, vis_frames, tolerance):
            if infrared is None or visible is None:
                continue
            sizes = [frame.image.pixels.shape[:2] for frame in (infrared, visible)]
            if sizes[0] != sizes[1]:
                raise ValueError(f"{ir.url}: frames are {size(sizes[0])}, those of {vis.url} {size(sizes[1])}")
            yield FramePair(infrared, visible, visible.time)


@dataclass
class _Tally:
    """Latencies in seconds."""

    frames: int = 0
    total: float = 0.0
    largest: float = 0.0

    def add(self, latency: float) -> None:
        self.frames += 1
        self.total += latency
        self.largest = max(self.largest, latency)


class Meter:
    """Measures how many frames pass, how long each takes from its arrival, and how many are dropped.

    Args:
        interval: Seconds between two reports.
    """

    def __init__(self, interval: float = 5.0):
        self._interval = interval
        self._start = self._reported = time.monotonic()
        self._all, self._since = _Tally(), _Tally()
        self._first: int | None = None
        self._arrived = 0

    def stored(self, frame: Frame) -> None:
        """Counts a visible frame whose fused frame has been stored; called by one thread, frame after frame."""
        latency = time.monotonic() - float(frame.time)
        self._all.add(latency)
        self._since.add(latency)
        self._first = frame.number if self._first is None else self._first
        self._arrived = frame.number - self._first + 1

    def report(self) -> str | None:
        """Formats what passed since the last report, in one line; None if that was less than the interval ago."""
        now = time.monotonic()
        if now - self._reported < self._interval:
            return None
        since, self._since = self._since, _Tally()
        seconds, self._reported = now - self._reported, now
        return self._line(since, seconds)

    def summary(self) -> str:
        """Formats what passed since the start, in one line."""
        return self._line(self._all, time.monotonic() - self._start)

    def _line(self, tally: _Tally, seconds: float) -> str:
        mean = tally.total / max(tally.frames, 1)
        return (
            f"{time.monotonic() - self._start:.0f} s: {tally.frames / seconds:.1f} frames per second, latency "
            f"{1000 * mean:.0f} ms (at most {1000 * tally.largest:.0f} ms), {self._arrived - self._all.frames} of "
            f"{self._arrived} frames dropped"
        )
