"""Writing clips as H.264 files."""

import sys
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rpfnet_jax.files import one_line, replacing
from rpfnet_jax.video.read import ClipError, frame_rate, pyav

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# AVCOL_SPC_BT709, AVCOL_PRI_BT709, AVCOL_TRC_BT709 and AVCOL_RANGE_MPEG of FFmpeg are all 1.
_BT709 = 1


class ClipWriter:
    """Writes frames into a video file that appears, complete, at the end of the `with` block.

    `with ClipWriter("fused.mp4", 25) as writer: writer.write(frame)`. The file grows under a temporary name; if the
    block fails, it is removed and an older file of that name stays as it was.

    Frames with even sides become 4:2:0 (`yuv420p`), which every player can show. An odd side keeps its size in 4:4:4
    (`yuv444p`), and `lossless` stores RGB bit by bit; browsers play neither, but VLC, mpv and FFmpeg do. Colours are
    converted and labelled as BT.709.

    Args:
        path: Target, ending in `.mp4`, `.mov` or `.mkv`; missing folders are created.
        fps: Frames per second, rounded to a fraction with a denominator up to 1001.
        lossless: Whether every frame must come back bit by bit.
        quality: CRF of x264, from 0 (best) to 51; ignored when lossless.

    Raises:
        ClipError: If the name ends otherwise, `fps` or `quality` is out of range, or PyAV was built without H.264.
        ImportError: If PyAV is missing.
    """

    def __init__(self, path: str | Path, fps: Fraction | float | int, *, lossless: bool = False, quality: int = 18):
        self.path = Path(path)
        self.fps = frame_rate(self.path, fps)
        if self.path.suffix.lower() not in _FORMATS:
            raise ClipError(self.path, f"the name of a clip must end in {', '.join(_FORMATS)}")
        if not 0 <= quality <= 51:
            raise ClipError(self.path, f"quality must lie in 0..51, got {quality}")
        self._av = pyav()
        self._codec = "libx264rgb" if lossless else "libx264"
        if self._codec not in self._av.codecs_available:
            raise ClipError(self.path, f"this PyAV has no H.264 encoder ({self._codec}); install it from PyPI")
        self._options = {"crf": "0" if lossless else str(quality)}
        self._shape: tuple[int, int] | None = None
        self._written = 0
        self._container: Any = None
        self._stream: Any = None
        self._cleanup = ExitStack()

    def __enter__(self) -> "ClipWriter":
        kind = _FORMATS[self.path.suffix.lower()]
        # The index is written before the frames, so that a player can start before it has the whole file.
        options = {} if kind == "matroska" else {"movflags": "faststart"}
        try:
            with ExitStack() as stack:
                temporary = stack.enter_context(replacing(self.path))
                self._container = stack.enter_context(self._av.open(str(temporary), "w", format=kind, options=options))
                self._cleanup = stack.pop_all()
        except OSError as error:
            raise ClipError(self.path, f"cannot be written: {one_line(error)}") from error
        return self

    def write(self, frame: UInt8[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w"]) -> None:
        """Adds a frame, RGB or grey; all must have one size.

        Raises:
            ClipError: If the frame has another size than the first, or cannot be encoded or stored.
            RuntimeError: Outside the `with` block.
        """
        if self._container is None:
            raise RuntimeError("ClipWriter.write works inside its with block only")
        shape = (frame.shape[0], frame.shape[1])
        if self._shape is None:
            self._start(shape)
        if shape != self._shape:
            raise ClipError(self.path, f"frame {self._written} has shape {shape}, the first {self._shape}")
        rgb = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
        encoded = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        if self._codec == "libx264":
            encoded = encoded.reformat(
                format=self._stream.pix_fmt, dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
            )
        encoded.pts, encoded.time_base = self._written, 1 / self.fps
        self._encode(encoded)
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if not self._written:
                    raise ClipError(self.path, "no frame was written")
                self._encode(None)
        except BaseException:
            self._close(*sys.exc_info())
            raise
        self._close(kind, error, trace)

    def _start(self, shape: tuple[int, int]) -> None:
        stream = self._container.add_stream(self._codec, rate=self.fps, options=self._options)
        stream.height, stream.width = shape
        if self._codec == "libx264rgb":
            stream.pix_fmt = "rgb24"
        else:
            stream.pix_fmt = "yuv444p" if shape[0] % 2 or shape[1] % 2 else "yuv420p"
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        self._stream, self._shape = stream, shape

    def _encode(self, frame: Any) -> None:
        """Encodes and stores a frame; None stores the frames that the encoder holds back."""
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            raise ClipError(self.path, f"frame {self._written} cannot be written: {one_line(error)}") from error

    def _close(self, *failure: Any) -> None:
        self._container = None
        try:
            self._cleanup.__exit__(*failure)
        except self._av.FFmpegError as error:
            # After a failure the file is not finished, and that failure is the one to report.
            if failure[0] is None:
                raise ClipError(self.path, f"cannot be written: {one_line(error)}") from error
