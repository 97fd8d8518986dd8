"""Live sources are paired as their frames arrive, and never queue up."""

import os
import threading
import time
from fractions import Fraction
from itertools import count, islice, pairwise

import av
import numpy as np
import pytest

from rpfnet_jax.data.pixels import StoredImage
from rpfnet_jax.video import ClipWriter, Frame, LiveSource, live_pairs
from rpfnet_jax.video.live import Meter

needs_lavfi = pytest.mark.skipif("lavfi" not in av.formats_available, reason="this PyAV has no synthetic sources")


class Camera:
    """An endless source whose frames come at a steady rate, or after the pauses that are given."""

    def __init__(self, url, rate=100, shape=(16, 16), pauses=None):
        self.url, self.rate = url, Fraction(rate)
        self.image, self.pauses = StoredImage(np.zeros((*shape, 3), np.uint8), 255), pauses

    def __iter__(self):
        for number in count() if self.pauses is None else range(len(self.pauses)):
            time.sleep(float(1 / self.rate) if self.pauses is None else self.pauses[number])
            yield Frame(number, Fraction(time.monotonic_ns(), 10**9), self.image)


def test_a_slow_reader_gets_new_frames_only():
    ages, pairs = [], []
    for pair in islice(live_pairs(Camera("ir"), Camera("vis")), 12):
        ages.append(time.monotonic() - float(pair.time))
        pairs.append(pair)
        time.sleep(0.05)
    # Five frames arrive during each pause, and none of them waits for the next one to end.
    assert np.median(ages) < 0.05
    assert all(later.vis.number > earlier.vis.number for earlier, later in pairwise(pairs))
    assert pairs[-1].vis.number > 30
    assert all(abs(pair.ir.time - pair.vis.time) <= Fraction(1, 10) for pair in pairs)
    assert all(pair.time == pair.vis.time for pair in pairs)


def test_a_slower_infrared_camera_holds_nothing_up():
    pairs, ages = [], []
    for pair in islice(live_pairs(Camera("ir", 5), Camera("vis", 60)), 20):
        pairs.append(pair)
        ages.append(time.monotonic() - float(pair.time))
    assert len({pair.ir.number for pair in pairs}) < 20
    assert np.median(ages) < 0.05


def test_frames_without_a_partner_are_dropped():
    # The infrared camera pauses for half a second.
    ir = Camera("ir", pauses=[0.01] * 10 + [0.5] + [0.01] * 20)
    gaps = [float(later.time - earlier.time) for earlier, later in pairwise(live_pairs(ir, Camera("vis")))]
    assert max(gaps) > 0.2


@pytest.mark.parametrize("side", ["ir", "vis"])
def test_it_ends_with_a_source(side):
    cameras = {"ir": Camera("ir"), "vis": Camera("vis")}
    cameras[side] = Camera(side, pauses=[0.01] * 5)
    before = threading.active_count()
    assert len(list(live_pairs(**cameras))) < 30
    time.sleep(0.1)
    assert threading.active_count() <= before


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"ir: frames are 16.20, those of vis 16.16"):
        next(live_pairs(Camera("ir", shape=(16, 20)), Camera("vis")))


def test_report(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    meter, image = Meter(2.0), StoredImage(np.zeros((1, 1, 3), np.uint8), 255)
    for number in (10, 11, 13):
        now += 0.5
        meter.stored(Frame(number, Fraction(now - 0.1), image))
    assert meter.report() is None
    now += 0.5
    meter.stored(Frame(14, Fraction(now - 0.3), image))
    line = "2 s: 2.0 frames per second, latency 150 ms (at most 300 ms), 1 of 5 frames dropped"
    assert meter.report() == line
    assert meter.summary() == line
    now += 2
    assert meter.report() == "4 s: 0.0 frames per second, latency 0 ms (at most 0 ms), 1 of 5 frames dropped"


@needs_lavfi
def test_a_synthetic_source():
    source = LiveSource("testsrc=size=64x48:rate=10", {"format": "lavfi"})
    assert (source.url, source.rate) == ("testsrc=size=64x48:rate=10", 10)
    start = time.monotonic()
    frames = list(islice(source, 3))
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert all(start < float(frame.time) < time.monotonic() for frame in frames)
    assert frames[0].image.pixels.shape == (48, 64, 3)


@needs_lavfi
def test_deep_infrared_keeps_its_values():
    (frame,) = islice(LiveSource("testsrc=size=64x48,format=gray16le", {"format": "lavfi"}), 1)
    assert (frame.image.pixels.dtype, frame.image.pixels.shape) == (np.uint16, (48, 64))


def test_unusable_sources(tmp_path):
    with pytest.raises(ValueError, match=r"none: cannot be opened: No such file"):
        LiveSource(str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"cannot be opened: .*nosuch"):
        LiveSource("a", {"format": "nosuch"})
    (tmp_path / "text").write_text("hello " * 200)
    with pytest.raises(ValueError, match=r"text: cannot be opened"):
        LiveSource(str(tmp_path / "text"))


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and what a reader finds in it: (number of frames, time of the last) whenever one arrives."""
    os.mkfifo(tmp_path / "pipe")
    seen = []

    def read(frames):
        with av.open(str(tmp_path / "pipe")) as container:
            for frame in islice(container.decode(video=0), frames):
                seen.append(frame)

    def start(frames=None):
        thread = threading.Thread(target=read, args=(frames,), daemon=True)
        thread.start()
        return thread

    return tmp_path / "pipe", start, seen


@pytest.mark.parametrize("lossless", [False, True])
def test_frames_leave_through_a_pipe_at_once(pipe, lossless):
    path, start, seen = pipe
    thread = start()
    images = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(10)]
    behind = []
    with ClipWriter(path, 25, live=True, lossless=lossless) as writer:
        for number in range(60):
            writer.write(images[number % 10], Fraction(number, 25)).result()
            time.sleep(0.01)
            behind.append(number + 1 - len(seen))
    thread.join(10)
    assert len(seen) == 60
    # The reader looks at a few frames before it shows the first.
    assert min(behind[30:]) <= 2
    assert [round(frame.time * 25) for frame in seen] == list(range(60))


def test_a_reader_that_has_seen_enough(pipe):
    path, start, seen = pipe
    start(3)
    writer = ClipWriter(path, 25, live=True)

    def write():
        with writer:
            while True:
                writer.write(np.zeros((48, 64, 3), np.uint8))

    with pytest.raises(BrokenPipeError):
        write()
    assert len(seen) == 3
    assert path.is_fifo()
