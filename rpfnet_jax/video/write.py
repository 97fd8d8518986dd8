"""Writing clips as H.264 files, with the sound of the clip that they were made from."""

from __future__ import annotations

import collections
import io
import math
import sys
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rpfnet_jax.files import one_line, replacing
from rpfnet_jax.runtime import require
from rpfnet_jax.video.read import Clip, ClipError, frame_rate

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# AVCOL_SPC_BT709, AVCOL_PRI_BT709, AVCOL_TRC_BT709 and AVCOL_RANGE_MPEG of FFmpeg are all 1.
_BT709 = 1
# Frames that may wait for the encoder.
_MAX_WAITING = 2


class ClipWriter:
    """Writes frames into a video file that appears, complete, at the end of the `with` block.

    `with ClipWriter("fused.mp4", 25) as writer: writer.write(image)`. Frames are encoded in a thread of its own, while
    the file grows under a temporary name. If the block fails or is interrupted, the file is completed with the frames
    written until then, unless there are none or the failure is the writer's own: then nothing is left, and an older
    file of that name stays as it was.

    Frames with even sides become 4:2:0 (`yuv420p`), which every player can show. An odd side keeps its size in 4:4:4
    (`yuv444p`), and `lossless` stores RGB bit by bit; browsers play neither, but VLC, mpv and FFmpeg do. Colours are
    converted and labelled as BT.709.

    Args:
        path: Target, ending in `.mp4`, `.mov` or `.mkv`; missing folders are created.
        pace: Frames per second, rounded to a fraction with a denominator up to 1001; or the clip whose times the frames
            have, and whose sound goes along.
        lossless: Whether every frame must come back bit by bit.
        quality: CRF of x264, from 0 (best) to 51; ignored when lossless.
        live: Whether every frame is encoded fast and stored at once. The path may then also be `-`, the standard
            output, or a named pipe: they get Matroska.

    Attributes:
        written: Number of frames written; 0 after a failure that left no file.

    Raises:
        ClipError: If the name ends otherwise, `pace` or `quality` is out of range, or PyAV was built without H.264.
        ImportError: If PyAV is missing.
    """

    def __init__(
        self,
        path: str | Path,
        pace: Clip | Fraction | float | int,
        *,
        lossless: bool = False,
        quality: int = 18,
        live: bool = False,
    ):
        self.path = Path(path)
        self._pipe = live and (str(path) == "-" or self.path.is_fifo())
        self.written = 0
        self._source = pace if isinstance(pace, Clip) else None
        self.fps = frame_rate(self.path, pace.rate if isinstance(pace, Clip) else pace)
        # At a constant rate a tenth of a millisecond or less, so that other times fit in as well.
        steady = 1 / (self.fps * math.ceil(10_000 / self.fps))
        self._time_base = pace.time_base if isinstance(pace, Clip) else steady
        if not self._pipe and self.path.suffix.lower() not in _FORMATS:
            raise ClipError(self.path, f"the name of a clip must end in {', '.join(_FORMATS)}")
        if not 0 <= quality <= 51:
            raise ClipError(self.path, f"quality must lie in 0..51, got {quality}")
        self._av = require("video")
        self._codec = "libx264rgb" if lossless else "libx264"
        if self._codec not in self._av.codecs_available:
            raise ClipError(self.path, f"this PyAV has no H.264 encoder ({self._codec}); install it from PyPI")
        self._options = {"crf": "0" if lossless else str(quality)}
        if live:
            self._options |= {"preset": "veryfast", "tune": "zerolatency"}
        self._shape: tuple[int, int] | None = None
        self._container: Any = None
        self._stream: Any = None
        self._sound: _Sound | None = None
        self._failed = False
        # Time stamps of the last two frames.
        self._stamps = collections.deque([-1, -1], maxlen=2)
        self._waiting: collections.deque[Future] = collections.deque()
        self._cleanup = ExitStack()

    def __enter__(self) -> ClipWriter:
        kind = "matroska" if self._pipe else _FORMATS[self.path.suffix.lower()]
        # The index is written before the frames, so that a player can start before it has the whole file.
        options = {} if kind == "matroska" else {"movflags": "faststart"}
        if self._pipe:
            options = {"live": "1", "cluster_time_limit": "0", "flush_packets": "1"}
        try:
            with ExitStack() as stack:
                if self._pipe:
                    target = "pipe:1" if str(self.path) == "-" else str(self.path)
                else:
                    target = str(stack.enter_context(replacing(self.path)))
                self._container = stack.enter_context(self._av.open(target, "w", format=kind, options=options))
                # One thread, which an interrupt does not reach, does all the writing.
                self._encoder = stack.enter_context(ThreadPoolExecutor(1))
                self._cleanup = stack.pop_all()
        except OSError as error:
            raise ClipError(self.path, f"cannot be written: {one_line(error)}") from error
        return self

    def write(
        self, image: UInt8[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w"], time: Fraction | None = None
    ) -> Future[None]:
        """Adds a frame, RGB or grey; all must have one size.

        Args:
            image: The frame.
            time: When it is shown, in seconds; None: at the constant rate. Times must rise; where they don't, or by
                less than the clip's time base, the frame comes one unit of that after the one before.

        Returns:
            Is done when the frame has been encoded.

        Raises:
            ClipError: If the frame has another size than the first, or one of those before cannot be encoded or stored.
            RuntimeError: Outside the `with` block.
        """
        if self._container is None:
            raise RuntimeError("ClipWriter.write works inside its with block only")
        shape = (image.shape[0], image.shape[1])
        if self._shape is None:
            self._start(shape)
        if shape != self._shape:
            raise ClipError(self.path, f"frame {self.written} has shape {shape}, the first {self._shape}")
        self._wait(_MAX_WAITING)
        rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        stamp = round((self.written / self.fps if time is None else time) / self._time_base)
        self._stamps.append(max(stamp, self._stamps[-1] + 1))
        frame.pts, frame.time_base = self._stamps[-1], self._time_base
        done = self._encoder.submit(self._encode, frame, self._stamps[-1] * self._time_base)
        self._waiting.append(done)
        self.written += 1
        return done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self.written:
                raise ClipError(self.path, "no frame was written")
            if self.written and not self._failed:
                # The last frame is shown as long as the one before, or as long as the rate says.
                last = max(1 / self.fps, (self._stamps[1] - self._stamps[0]) * self._time_base)
                end = self._stamps[1] * self._time_base + last
                self._waiting.append(self._encoder.submit(self._encode, None, end))
                self._wait(0)
                kind = error = trace = None
        except BaseException:
            kind, error, trace = sys.exc_info()
            raise
        finally:
            self._close(kind, error, trace)

    def _start(self, shape: tuple[int, int]) -> None:
        stream = self._container.add_stream(self._codec, rate=self.fps, options=self._options)
        stream.codec_context.time_base = self._time_base
        stream.height, stream.width = shape
        if self._codec == "libx264rgb":
            stream.pix_fmt = "rgb24"
        else:
            stream.pix_fmt = "yuv444p" if shape[0] % 2 or shape[1] % 2 else "yuv420p"
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        self._stream, self._shape = stream, shape
        if self._source is not None and self._source.sound:
            self._sound = self._cleanup.enter_context(_Sound(self._source, self._container))

    def _encode(self, frame: Any, time: Fraction) -> None:
        """Encodes and stores a frame, and the sound before its time; None stores the frames that the encoder holds."""
        try:
            if frame is not None and self._codec == "libx264":
                frame = frame.reformat(
                    format=self._stream.pix_fmt, dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
                )
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
            if self._sound is not None:
                self._sound.copy_until(time)
        except BrokenPipeError:
            raise  # Whoever read the pipe has seen enough.
        except self._av.FFmpegError as error:
            raise ClipError(self.path, f"frame {self.written} cannot be written: {one_line(error)}") from error

    def _wait(self, allowed: int) -> None:
        """Waits until the encoder has at most that many frames left; raises its error."""
        while len(self._waiting) > allowed or (self._waiting and self._waiting[0].done()):
            try:
                self._waiting.popleft().result()
            except Exception:
                self._failed = True
                raise

    def _close(self, *failure: Any) -> None:
        self._container = None
        self.written = 0 if failure[0] else self.written
        try:
            self._cleanup.__exit__(*failure)
        except self._av.FFmpegError as error:
            # After a failure the file is not finished, and that failure is the one to report.
            if failure[0] is None:
                raise ClipError(self.path, f"cannot be written: {one_line(error)}") from error


class _Sound:
    """Copies the sound of a clip, as it is encoded, into another container; times count from the first frame.

    What cannot be copied is left out with a warning: it is not worth the frames.

    Args:
        source: The clip.
        target: The container, before anything was written to it.
    """

    def __init__(self, source: Clip, target: Any):
        self._path, self._target, self._start = source.path, target, source.start
        self._av = require("video")
        self._container: Any = None
        self._packets: Any = iter(())
        self._next: Any = None
        # Stream of the source -> stream of the target.
        self._streams: dict[Any, Any] = {}

    def __enter__(self) -> _Sound:
        if self._start is None:
            self._give_up("another frame rate was given")
            return self
        self._container = self._av.open(str(self._path))
        for stream in self._container.streams.audio:
            if self._fits(stream.index):
                self._streams[stream] = self._target.add_stream_from_template(stream)
            else:
                self._give_up(f"{self._target.format.name} does not take this {stream.name}; try .mkv")
        if self._streams:
            self._packets = self._container.demux(*self._streams)
        return self

    def _fits(self, index: int) -> bool:
        """Tries whether the format of the target takes a stream: some only find out when they complete the file."""
        kind = self._target.format.name
        try:
            with self._av.open(str(self._path)) as source, self._av.open(io.BytesIO(), "w", format=kind) as trial:
                packet = next(source.demux(source.streams[index]))
                packet.stream = trial.add_stream_from_template(source.streams[index])
                trial.mux(packet)
        except (ValueError, self._av.FFmpegError):
            return False
        return True

    def __exit__(self, *failure: object) -> None:
        if self._container is not None:
            self._container.close()

    def copy_until(self, end: Fraction) -> None:
        """Copies the packets before a time in seconds."""
        try:
            while True:
                packet = self._next or next(self._packets, None)
                self._next = None
                if packet is None:
                    return
                # Without time stamps: the end of a stream.
                if packet.dts is None or packet.pts is None:
                    continue
                time = packet.pts * packet.time_base - self._start
                if time >= end:
                    self._next = packet
                    return
                # Matroska has no times before 0 and would delay the frames instead.
                if time < 0 and self._target.format.name == "matroska":
                    continue
                shift = round(self._start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._streams[packet.stream]
                self._target.mux(packet)
        except self._av.FFmpegError as error:
            self._packets = iter(())
            self._give_up(f"from {float(end):.3f} s on: {one_line(error)}")

    def _give_up(self, reason: str) -> None:
        warnings.warn(f"{self._path}: sound is left out ({reason})", stacklevel=2)
