"""Pairing the frames of two clips or two live sources by their times."""

from __future__ import annotations

import collections
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from operator import attrgetter
from typing import Any, NamedTuple

from rpfnet_jax.video.read import Clip, ClipError, Frame, size

# Frames of a clip that are decoded ahead.
_AHEAD = 2
# Matroska rounds time stamps to milliseconds.
_ROUNDING = Fraction(1, 1000)
# Containers round frame rates in the fifth digit; 29.97 and 30 differ in the third.
_SAME_RATE = 1e-4


class FramePair(NamedTuple):
    """An infrared and a visible frame that show the same moment.

    Attributes:
        ir: The infrared frame.
        vis: The visible frame.
        time: When the fused frame is shown, in seconds.
    """

    ir: Frame
    vis: Frame
    time: Fraction


class FrameThread(Iterator[Frame]):
    """Reads frames in a thread of its own, and hands them on in order.

    An error of the thread is raised where the next frame would come.

    Args:
        frames: What the thread reads.
        length: Frames that may wait to be taken.
        live: Where that many wait already: drop the oldest of them (live sources) instead of pausing (files).
    """

    def __init__(self, frames: Iterable[Frame], length: int, live: bool = False):
        self._length, self._live = length, live
        self._waiting: collections.deque[Frame] = collections.deque()
        self._end: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()
        # A thread that waits for a camera must not keep the process from ending.
        threading.Thread(target=self._read, args=(frames,), daemon=True).start()

    def _read(self, frames: Iterable[Frame]) -> None:
        end: BaseException = StopIteration()
        try:
            for frame in frames:
                with self._changed:
                    if not self._live:
                        self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._length)
                    if self._closed:
                        return
                    if len(self._waiting) == self._length:
                        self._waiting.popleft()
                    self._waiting.append(frame)
                    self._changed.notify_all()
        except BaseException as error:
            end = error
        finally:
            with self._changed:
                self._end = end
                self._changed.notify_all()

    def __next__(self) -> Frame:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._end)
            if not self._waiting and self._end is not None:
                raise self._end
            self._changed.notify_all()
            return self._waiting.popleft()

    def arrived(self) -> Frame | None:
        """Takes the next frame; None if there is none: a clip has ended, or a live source has not sent it yet."""
        with self._changed:
            if self._live and not self._waiting and self._end is None:
                return None
        return next(self, None)

    @property
    def ended(self) -> bool:
        """Whether all frames have been taken."""
        with self._changed:
            return self._end is not None and not self._waiting

    def close(self) -> None:
        """Ends the thread, as soon as it has its next frame."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def nearest_frames(
    ir: FrameThread,
    vis: FrameThread,
    tolerance: Fraction,
    clock: Callable[[Frame], Any] = attrgetter("time"),
) -> Iterator[tuple[Frame | None, Frame | None]]:
    """Pairs each visible frame with the infrared frame nearest in time; of a live source, among those that arrived.

    An infrared frame may belong to several visible ones, or to none.

    Args:
        ir: Infrared frames by rising time.
        vis: Visible frames by rising time.
        tolerance: The largest difference between the two frames of a pair.
        clock: Returns the time of a frame.

    Yields:
        (infrared, visible); (None, visible) where no infrared frame is near enough. Ends where one side has ended, with
        a frame of the other that lies behind that end, if there is one: (infrared, None) or (None, visible).
    """
    nearest, following = next(ir, None), None
    frame = None
    for frame in vis:
        if nearest is None:
            return
        while True:
            following = following or ir.arrived()
            if following is None or abs(clock(following) - clock(frame)) >= abs(clock(nearest) - clock(frame)):
                break
            nearest, following = following, None
        if abs(clock(nearest) - clock(frame)) <= tolerance:
            yield nearest, frame
            continue
        yield None, frame
        if following is None and clock(frame) > clock(nearest) and ir.ended:
            return
    if frame is not None and following is not None and clock(following) - clock(frame) > tolerance:
        yield following, None


def paired_frames(ir: Clip, vis: Clip, *, same_size: bool = True, skip_unmatched: bool = False) -> Iterator[FramePair]:
    """Pairs the frames of two clips: each visible frame with the infrared frame nearest in time.

    Times count from the first frame of each clip. A folder without a rate has no times: its frames are paired with
    those of the other clip one by one. Each clip is decoded in a thread of its own. Warns where the rates differ, and
    where one clip goes on after the end of the other: what only one of them has is left out.

    Args:
        ir: The infrared clip.
        vis: The visible clip.
        same_size: Whether frames must have one size, which is checked at once; False for clips that are still to be
            registered.
        skip_unmatched: Leave out visible frames that have no partner, instead of raising an error.

    Returns:
        Iterator over the pairs.

    Raises:
        ClipError: If sizes differ; while iterating, also if a visible frame between others has no infrared frame within
            half a frame (of the slower clip), or as `Clip` says.
    """
    if same_size and ir.shape != vis.shape:
        raise ClipError(ir.path, f"frames are {size(ir.shape)}, those of {vis.path} {size(vis.shape)}")
    if ir.fps and vis.fps and abs(ir.fps / vis.fps - 1) > _SAME_RATE:
        warnings.warn(
            f"{ir.path}: {float(ir.fps):.6g} frames per second, {vis.path} has {float(vis.fps):.6g}; each visible "
            "frame is fused with the infrared frame nearest in time",
            stacklevel=2,
        )
    return _paired_frames(ir, vis, skip_unmatched)


def _paired_frames(ir: Clip, vis: Clip, skip_unmatched: bool) -> Iterator[FramePair]:
    timed = ir.fps is not None and vis.fps is not None
    tolerance = 1 / (2 * min(ir.rate, vis.rate)) + _ROUNDING if timed else Fraction(1, 2)
    clock = attrgetter("time" if timed else "number")
    untimed_vis = vis.fps is None and ir.fps is not None
    rest: Frame | None = None
    skipped = 0
    infrared: Frame | None = None
    with closing(FrameThread(ir, _AHEAD)) as ir_frames, closing(FrameThread(vis, _AHEAD)) as vis_frames:
        for infrared, visible in nearest_frames(ir_frames, vis_frames, tolerance, clock):
            if rest is not None:
                # A frame by itself that was not at the end.
                skipped += 1
                if not skip_unmatched:
                    raise ClipError(
                        vis.path,
                        f"frame {rest.number}, at {float(rest.time):.3f} s, has no frame within half a frame "
                        f"({float(tolerance):.3f} s) in {ir.path}; see --skip-unmatched and --fps",
                    )
            rest = None
            if infrared is not None and visible is not None:
                yield FramePair(infrared, visible, infrared.time if untimed_vis else visible.time)
            else:
                rest = infrared or visible
    if skipped:
        warnings.warn(f"{vis.path}: {skipped} frame(s) without a partner in {ir.path} left out", stacklevel=2)
    if rest is not None:
        longer, shorter = (vis, ir) if infrared is None else (ir, vis)
        warnings.warn(
            f"{longer.path}: left out from frame {rest.number} ({float(rest.time):.3f} s) on, because {shorter.path} "
            "ends before",
            stacklevel=2,
        )
