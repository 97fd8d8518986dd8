"""Frames are paired by their times."""

import threading
import time
import tracemalloc
from fractions import Fraction
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpfnet_jax.data import write_png
from rpfnet_jax.data.pixels import StoredImage
from rpfnet_jax.video import ClipError, ClipWriter, Frame, open_clip, paired_frames
from rpfnet_jax.video.pair import FrameThread, nearest_frames

BLACK = StoredImage(np.zeros((1, 1, 3), np.uint8), 255)


def clip_at(path, seconds, shape=(16, 32), fps=25):
    """Writes a clip whose frame `i` is shown at `seconds[i]` (the first at 0) and has grey level `10 * i`."""
    with ClipWriter(path, fps) as writer:
        for index, second in enumerate(seconds):
            writer.write(np.full(shape, 10 * index, np.uint8), Fraction(second))
    return open_clip(path)


def folder_of(path, length):
    for index in range(length):
        write_png(path / f"{index}.png", np.full((16, 32), 10 * index, np.uint8))
    return open_clip(path)


def frames_at(*times):
    return [Frame(index, Fraction(time), BLACK) for index, time in enumerate(times)]


# Rates of uneven clips are averages, which differ a little.
uneven = pytest.mark.filterwarnings("ignore:.* frames per second:UserWarning")


def matched(ir, vis, **options):
    """The indices of the frames of each pair."""
    return [(pair.ir.number, pair.vis.number) for pair in paired_frames(ir, vis, **options)]


TIMES = st.lists(st.integers(1, 50), max_size=8).map(lambda steps: [0, *np.cumsum(steps).tolist()])


@given(TIMES, TIMES, st.integers(0, 60))
def test_every_visible_frame_gets_the_nearest_infrared_frame(ir_times, vis_times, tolerance):
    ir, vis = frames_at(*ir_times), frames_at(*vis_times)
    found = list(nearest_frames(FrameThread(ir, 2), FrameThread(vis, 2), Fraction(tolerance)))
    infrared, visible = found[-1]
    if visible is None:
        # The visible clip ended, and this infrared frame is behind it.
        found.pop()
        assert infrared.time > vis_times[-1] + tolerance
    elif len(found) < len(vis):
        # Nothing more can come after the end of the infrared clip.
        assert infrared is None
        assert visible.time > ir_times[-1] + tolerance
    else:
        assert visible.number == len(vis) - 1
    assert [visible.number for _, visible in found] == list(range(len(found)))
    for infrared, visible in found:
        gaps = [abs(time - visible.time) for time in ir_times]
        if infrared is None:
            assert min(gaps) > tolerance
        else:
            assert abs(infrared.time - visible.time) == min(gaps) <= tolerance


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_uneven_times_are_kept(tmp_path, suffix):
    times = [0, 0.04, 0.08, 0.28, 0.48, 0.5, 1.5]
    clips = [clip_at(tmp_path / f"{side}.{suffix}", times) for side in ("ir", "vis")]
    pairs = list(paired_frames(*clips))
    assert [(pair.ir.number, pair.vis.number) for pair in pairs] == [(index, index) for index in range(7)]
    assert [float(pair.time) for pair in pairs] == pytest.approx(times, abs=0.001)


@uneven
def test_a_clip_within_half_a_frame(tmp_path):
    ir = clip_at(tmp_path / "ir.mp4", [0, 0.053, 0.07, 0.12])
    vis = clip_at(tmp_path / "vis.mp4", [0, 0.04, 0.08, 0.12])
    assert matched(ir, vis) == [(0, 0), (1, 1), (2, 2), (3, 3)]


@uneven
def test_a_frame_without_a_partner(tmp_path):
    vis = clip_at(tmp_path / "vis.mp4", [0, 0.04, 0.08, 0.12, 0.16])
    # One infrared frame is missing.
    ir = clip_at(tmp_path / "ir.mp4", [0, 0.04, 0.12, 0.16])
    with pytest.raises(ClipError, match=r"frame 2, at 0\.080 s, has no frame within half a frame .*ir\.mp4") as caught:
        matched(ir, vis)
    assert caught.value.path == vis.path
    with pytest.warns(UserWarning, match=r"vis\.mp4: 1 frame\(s\) without a partner in .*ir\.mp4"):
        assert matched(ir, vis, skip_unmatched=True) == [(0, 0), (1, 1), (2, 3), (3, 4)]


def test_rates_that_differ(tmp_path):
    fast = clip_at(tmp_path / "60.mp4", [index / 60 for index in range(11)], fps=60)
    slow = open_clip(folder_of(tmp_path / "20", 4).path, fps=20)
    with pytest.warns(UserWarning, match=r"60 frames per second, .* has 20; each visible frame"):
        assert matched(fast, slow) == [(0, 0), (3, 1), (6, 2), (9, 3)]
    # The slower infrared frames are used several times.
    with pytest.warns(UserWarning, match=r"20: 20 frames per second, .* has 60"):
        assert [ir for ir, _ in matched(slow, fast)] == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("longer", ["ir", "vis"])
@pytest.mark.parametrize("kind", ["folder", "mp4"])
def test_one_clip_ends_before_the_other(tmp_path, kind, longer):
    lengths = {side: 4 if side == longer else 3 for side in ("ir", "vis")}
    if kind == "folder":
        clips = {side: folder_of(tmp_path / side, length) for side, length in lengths.items()}
    else:
        clips = {
            side: clip_at(tmp_path / f"{side}.mp4", [index / 30 for index in range(length)], fps=30)
            for side, length in lengths.items()
        }
    with pytest.warns(UserWarning, match="ends before") as caught:
        assert matched(**clips) == [(0, 0), (1, 1), (2, 2)]
    (warning,) = caught
    shorter = clips["vis" if longer == "ir" else "ir"].path
    assert str(warning.message).startswith(f"{clips[longer].path}: left out from frame 3 (0.1")
    assert str(warning.message).endswith(f"because {shorter} ends before")


def test_folders_without_a_rate_are_paired_one_by_one(tmp_path):
    times = [0, 0.04, 0.5]
    file, folder = clip_at(tmp_path / "a.mp4", times), folder_of(tmp_path / "b", 3)
    for clips in ((file, folder), (folder, file)):
        pairs = list(paired_frames(*clips))
        assert [(pair.ir.number, pair.vis.number) for pair in pairs] == [(0, 0), (1, 1), (2, 2)]
        assert [float(pair.time) for pair in pairs] == pytest.approx(times, abs=1e-4)
    pairs = list(paired_frames(folder, folder))
    assert [pair.time for pair in pairs] == [Fraction(index, 25) for index in range(3)]


def test_given_rate_replaces_times(tmp_path):
    clip_at(tmp_path / "ir.mp4", [0, 0.04, 0.5]), clip_at(tmp_path / "vis.mp4", [0, 0.3, 0.34])
    ir, vis = (open_clip(tmp_path / f"{side}.mp4", fps=10) for side in ("ir", "vis"))
    pairs = list(paired_frames(ir, vis))
    assert [(pair.ir.number, pair.time) for pair in pairs] == [(index, Fraction(index, 10)) for index in range(3)]


def test_sizes_must_agree(tmp_path):
    vis, small = clip_at(tmp_path / "vis.mp4", [0, 0.1]), clip_at(tmp_path / "ir.mp4", [0, 0.1], (16, 16))
    with pytest.raises(ClipError, match=r"frames are 16.16, those of .*vis\.mp4 16.32") as caught:
        paired_frames(small, vis)
    assert caught.value.path == small.path
    assert len(list(paired_frames(small, vis, same_size=False))) == 2


def test_few_frames_are_in_memory(tmp_path):
    shape = (120, 160)
    clip = clip_at(tmp_path / "a.mp4", [index / 25 for index in range(25)], shape)
    list(paired_frames(clip, clip))  # What is imported and cached once does not count.
    tracemalloc.start()
    total = sum(1 for _ in paired_frames(clip, clip))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 25
    assert peak < 12 * 3 * shape[0] * shape[1]


def endless(seconds=0.0):
    for index in count():
        time.sleep(seconds)
        yield Frame(index, Fraction(index), BLACK)


def test_a_thread_reads_a_few_frames_ahead():
    started = []

    def source():
        for frame in endless():
            started.append(frame.number)
            yield frame

    thread = FrameThread(source(), 3)
    assert [frame.number for frame in islice(thread, 50)] == list(range(50))
    time.sleep(0.05)
    assert len(started) <= 50 + 3 + 1
    before = threading.active_count()
    thread.close()
    time.sleep(0.05)
    assert threading.active_count() == before - 1


def test_a_live_thread_drops_the_oldest_frames():
    thread = FrameThread(endless(0.001), 2, live=True)
    first = next(thread)
    time.sleep(0.2)
    second = next(thread)
    thread.close()
    assert second.number - first.number > 20


@pytest.mark.parametrize("live", [False, True])
def test_an_error_of_the_thread_comes_after_its_frames(live):
    def source():
        yield from islice(endless(), 2)
        raise ClipError(Path("a.mp4"), "broken")

    thread = FrameThread(source(), 5, live)
    assert [next(thread).number, next(thread).number] == [0, 1]
    with pytest.raises(ClipError, match="broken"):
        next(thread)
    assert list(FrameThread(islice(endless(), 3), 5, live))[2].number == 2
