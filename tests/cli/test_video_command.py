"""`video` as a user types it."""

import os
import re
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.inference import load
from rpfnet_jax.video.read import open_clip
from rpfnet_jax.video.write import ClipWriter

COUNT = 5


@pytest.fixture
def frames(noise):
    """The frames of a grey infrared clip and of a visible one, (COUNT, 24, 40, 3) each."""
    ir = [np.dstack([noise(seed)] * 3) for seed in range(COUNT)]
    return np.stack(ir), np.stack([noise(100 + seed, 24, 40, 3) for seed in range(COUNT)])


def write_clip(path, frames, fps=10):
    with ClipWriter(path, fps, lossless=True) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def images(clip):
    return [frame.image.pixels for frame in clip]


def write_folder(folder, frames, first=8):
    """Grey images where all channels are equal."""
    for number, frame in enumerate(frames, start=first):
        grey = (frame == frame[..., :1]).all()
        write_png(folder / f"f{number}.png", frame[..., 0].copy() if grey else frame)
    return folder


@pytest.fixture
def video(rpfnet, weights_path, tmp_path):
    """Fuses into `new/out.mkv`, and looks for temporary files left over."""

    def run(ir, vis, *options, out="new/out.mkv"):
        places = [f"--ir={ir}", f"--vis={vis}", f"--out={tmp_path / out}"]
        done = rpfnet("video", f"--weights={weights_path}", *places, *options)
        assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
        return done

    return run


@pytest.fixture
def refused(video, tmp_path):
    """The one line that a command says, which has to leave nothing behind."""

    def run(*arguments, **options):
        done = video(*arguments, **options)
        assert done[:2] == (1, "")
        assert done.err.count("\n") == 1
        assert not list(tmp_path.glob("new/*"))
        return done.err.removeprefix("error: ").rstrip("\n")

    return run


@pytest.mark.parametrize("kind", ["folders", "mp4", "mkv"])
def test_clips_of_every_kind(video, frames, weights_path, tmp_path, kind):
    if kind == "folders":
        ir, vis = (write_folder(tmp_path / side, clip) for side, clip in zip(("ir", "vis"), frames, strict=True))
    else:
        sides = zip(("ir", "vis"), frames, strict=True)
        ir, vis = (write_clip(tmp_path / f"{side}.{kind}", clip) for side, clip in sides)
    done = video(ir, vis, "--lossless")
    assert done == (0, f"{tmp_path / 'new' / 'out.mkv'}\n", "")
    clip = open_clip(tmp_path / "new" / "out.mkv")
    fused = images(clip)
    assert (len(fused), clip.shape, clip.fps) == (COUNT, (24, 40), 25 if kind == "folders" else 10)
    net = load(weights_path, "running")
    for number in (0, 3, COUNT - 1):
        np.testing.assert_array_equal(fused[number], net.fuse(frames[0][number], frames[1][number]))


def test_norm_and_lossy_mp4(video, frames, weights_path, tmp_path):
    smooth = np.stack([np.full((24, 40, 3), 40 * number, np.uint8) for number in range(COUNT)])
    ir, vis = write_folder(tmp_path / "ir", frames[0]), write_folder(tmp_path / "vis", smooth)
    lossless = video(ir, vis, "--lossless", "--norm=adaptive", "--adapt=0.5")
    assert lossless.code == 0
    expected = load(weights_path, "adaptive", 0.5).fuse(frames[0][3], smooth[3])
    np.testing.assert_array_equal(images(open_clip(tmp_path / "new" / "out.mkv"))[3], expected)
    assert video(ir, vis, "--norm=adaptive", "--adapt=0.5", out="lossy.mp4").code == 0
    lossy = images(open_clip(tmp_path / "lossy.mp4"))
    assert len(lossy) == COUNT
    error = np.abs(lossy[3].astype(float) - expected).mean()
    assert 0 < error < 8


@pytest.mark.parametrize(
    ("ir_kind", "options", "rate"),
    [("folder", [], 12), ("folder", ["--fps=12"], 12), ("file", ["--fps=30"], 30), ("folder", ["--fps=29.97"], 29.97)],
)
def test_rate(video, frames, tmp_path, ir_kind, options, rate):
    folder = ir_kind == "folder"
    ir = write_folder(tmp_path / "ir", frames[0]) if folder else write_clip(tmp_path / "ir.mp4", frames[0], 12)
    vis = write_clip(tmp_path / "vis.mp4", frames[1], 12)
    assert video(ir, vis, *options).code == 0
    # Matroska stores whole milliseconds per frame.
    assert abs(open_clip(tmp_path / "new" / "out.mkv").fps / Fraction(rate) - 1) < 1e-3


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("suffix", ["mp4", "mkv", ""])
@pytest.mark.parametrize("shorter", ["ir", "vis"])
def test_a_clip_that_ends_early_costs_what_it_lacks(video, frames, tmp_path, suffix, shorter):
    write = write_clip if suffix else write_folder
    clips = {side: tmp_path / f"{side}.{suffix}".rstrip(".") for side in ("ir", "vis")}
    for (side, path), clip in zip(clips.items(), frames, strict=True):
        write(path, clip[:-1] if side == shorter else clip)
    done = video(**clips)
    longer = clips["vis" if shorter == "ir" else "ir"]
    line = f"left out from frame 4 ({0.4 if suffix else 0.16:.3f} s) on, because {clips[shorter]} ends before"
    assert done == (0, f"{tmp_path / 'new' / 'out.mkv'}\n", f"warning: {longer}: {line}\n")
    assert len(images(open_clip(tmp_path / "new" / "out.mkv"))) == 4


def test_clips_that_do_not_belong_together(refused, frames, tmp_path):
    vis = write_clip(tmp_path / "vis.mp4", frames[1])
    small = write_clip(tmp_path / "small.mp4", frames[0][:, :20])
    assert refused(small, vis) == f"{small}: frames are 20\u00d740, those of {vis} 24\u00d740"


def test_times_go_along(video, frames, tmp_path):
    times = [0, 0.1, 0.2, 0.7, 1.2]
    clips = {}
    for side, clip in zip(("ir", "vis"), frames, strict=True):
        clips[side] = tmp_path / f"{side}.mp4"
        with ClipWriter(clips[side], 10, lossless=True) as writer:
            for time, frame in zip(times, clip, strict=True):
                writer.write(frame, Fraction(time))
    assert video(**clips).code == 0
    fused = [frame.time for frame in open_clip(tmp_path / "new" / "out.mkv")]
    assert [float(time) for time in fused] == pytest.approx(times, abs=0.001)


@pytest.mark.filterwarnings("default")
def test_a_frame_without_a_partner(video, frames, tmp_path):
    vis = write_clip(tmp_path / "vis.mp4", frames[1])
    with ClipWriter(tmp_path / "ir.mp4", 10, lossless=True) as writer:
        for index in (0, 1, 3, 4):
            writer.write(frames[0][index], Fraction(index, 10))
    done = video(writer.path, vis)
    assert done.code == 1
    assert f"error: {vis}: frame 2, at 0.200 s, has no frame within half a frame (" in done.err
    done = video(writer.path, vis, "--skip-unmatched")
    assert done.code == 0
    assert f"warning: {vis}: 1 frame(s) without a partner in {writer.path} left out" in done.err
    assert len(images(open_clip(tmp_path / "new" / "out.mkv"))) == 4
    # Frame by frame.
    done = video(writer.path, vis, "--fps=10")
    assert done.code == 0
    assert f"warning: {vis}: left out from frame 4" in done.err


def test_a_damaged_frame_costs_what_comes_after(video, frames, tmp_path):
    ir, vis = (write_folder(tmp_path / side, clip) for side, clip in zip(("ir", "vis"), frames, strict=True))
    (vis / "f11.png").write_bytes((vis / "f11.png").read_bytes()[:300])
    done = video(ir, vis)
    assert (done.code, done.out) == (1, "")
    kept, error = done.err.splitlines()
    assert error.startswith(f"error: {vis / 'f11.png'}: ")
    assert kept == f"{tmp_path / 'new' / 'out.mkv'} holds the first 3 frames"


def test_interrupted(video, frames, tmp_path, monkeypatch):
    ir, vis = (write_folder(tmp_path / side, clip) for side, clip in zip(("ir", "vis"), frames, strict=True))
    write = ClipWriter.write

    def interrupt(writer, *frame):
        if writer.written == 3:
            raise KeyboardInterrupt
        write(writer, *frame)

    monkeypatch.setattr(ClipWriter, "write", interrupt)
    out = tmp_path / "new" / "out.mkv"
    assert video(ir, vis, "--lossless") == (130, "", f"{out} holds the first 3 frames\ninterrupted\n")
    assert len(images(open_clip(out))) == 3


def test_frames_too_small_for_the_network(refused, frames, tmp_path):
    folders = [write_folder(tmp_path / side, clip[:, :8]) for side, clip in zip(("ir", "vis"), frames, strict=True)]
    assert refused(*folders) == "frame 0: height and width must be at least 16, got 8x40"


def test_a_failure_keeps_the_older_clip(video, frames, tmp_path):
    ir, vis = (write_folder(tmp_path / side, clip[:, :8]) for side, clip in zip(("ir", "vis"), frames, strict=True))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "out.mkv").write_bytes(b"older")
    assert video(ir, vis).code == 1
    assert (tmp_path / "new" / "out.mkv").read_bytes() == b"older"


@pytest.mark.parametrize("side", ["ir", "vis"])
def test_the_result_never_replaces_an_input(video, frames, tmp_path, side):
    sides = zip(("ir", "vis"), frames, strict=True)
    clips = {name: write_clip(tmp_path / f"{name}.mkv", clip) for name, clip in sides}
    before = clips[side].read_bytes()
    done = video(**clips, out=f"{side}.mkv")
    assert (done.code, done.err) == (1, f"error: {clips[side]} is an input; it would be overwritten\n")
    assert clips[side].read_bytes() == before


def test_unusable_arguments(refused, frames, tmp_path):
    ir, vis = (write_folder(tmp_path / side, clip) for side, clip in zip(("ir", "vis"), frames, strict=True))
    assert refused("none.mp4", vis) == "none.mp4: no such file or folder"
    assert refused(ir, vis / "f8.png").startswith(f"{vis / 'f8.png'}: a single image; a clip is")
    text = tmp_path / "text.mp4"
    text.write_text("hello")
    assert refused(ir, text).startswith(f"{text}: cannot be read as a video")
    avi = tmp_path / "new" / "out.avi"
    assert refused(ir, vis, out="new/out.avi") == f"{avi}: the name of a clip must end in .mp4, .mov, .mkv"
    assert refused(ir, vis, "--fps=0") == f"{ir}: frames per second must be a positive number, got 0.0"
    assert refused(ir, vis, "--adapt=0.5").startswith("adapt=0.5 has an effect only with norm=adaptive")
    assert refused(ir, vis, "--weights=none.pth") == "no weights at none.pth"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(empty, vis) == f"{empty}: holds no images"
    (tmp_path / "taken").write_text("mine")
    assert "taken" in refused(ir, vis, out="taken/out.mp4")


def test_without_pyav(refused, frames, monkeypatch, tmp_path):
    ir, vis = (write_folder(tmp_path / side, clip) for side, clip in zip(("ir", "vis"), frames, strict=True))
    monkeypatch.setitem(sys.modules, "av", None)
    assert refused(ir, vis) == 'video files need PyAV: pip install "rpfnet-jax[video]"'


def test_folders_of_grey_and_colour_are_read_alike(video, frames, tmp_path):
    ir, vis = (write_folder(tmp_path / side, clip[:1]) for side, clip in zip(("ir", "vis"), frames, strict=True))
    assert read_image(ir / "f8.png").ndim == 2
    assert video(ir, vis, "--lossless").code == 0
    write_png(ir / "f8.png", frames[0][0])
    assert video(ir, vis, "--lossless", out="rgb.mkv").code == 0
    first, second = (images(open_clip(tmp_path / name))[0] for name in ("new/out.mkv", "rgb.mkv"))
    np.testing.assert_array_equal(first, second)


LIVE = ["--live", "--ir-options", "format=lavfi", "--vis-options", "format=lavfi"]
needs_lavfi = pytest.mark.skipif("lavfi" not in av.formats_available, reason="this PyAV has no synthetic sources")


@pytest.fixture
def live(video):
    """Fuses two endless synthetic cameras with 30 frames per second."""

    def run(*options, **more):
        return video(
            "testsrc=s=40x24:r=30,format=gray,realtime", "testsrc2=s=40x24:r=30,realtime", *LIVE, *options, **more
        )

    return run


@needs_lavfi
def test_live(live, tmp_path):
    done = live("--seconds=1.5")
    assert done[:2] == (0, f"{tmp_path / 'new' / 'out.mkv'}\n")
    assert re.fullmatch(r"\d+ s: [\d.]+ frames per second, latency \d+ ms .*, \d+ of \d+ frames dropped\n", done.err)
    times = [float(frame.time) for frame in open_clip(tmp_path / "new" / "out.mkv")]
    assert times == sorted(times)
    assert times[0] == 0
    # Rounded to the container's milliseconds.
    assert 0.5 < times[-1] <= 1.5


@needs_lavfi
def test_interrupted_live(live, tmp_path, monkeypatch):
    write = ClipWriter.write

    def interrupt(writer, *frame):
        if writer.written == 3:
            raise KeyboardInterrupt
        return write(writer, *frame)

    monkeypatch.setattr(ClipWriter, "write", interrupt)
    # The usual way to stop it.
    assert live().code == 0
    assert len(images(open_clip(tmp_path / "new" / "out.mkv"))) == 3


@pytest.mark.slow
@needs_lavfi
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_live_for_long_keeps_latency_and_memory(live):
    pages = []

    def watch():
        while not done.wait(1):
            pages.append(int(Path("/proc/self/statm").read_text().split()[1]))

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    result = live("--seconds=20")
    done.set()
    watcher.join()
    assert result.code == 0
    reports = [re.search(r"latency (\d+) ms \(at most (\d+) ms\)", line) for line in result.err.splitlines()]
    assert len(reports) >= 4
    # The last quarter is no later than the others: nothing queues up.
    *earlier, last, _ = [int(report[1]) for report in reports]
    assert last < 2 * max(earlier) + 20
    assert max(int(report[2]) for report in reports) < 2000
    # The first seconds compile.
    settled = pages[8:]
    assert max(settled) - min(settled) < 8 * 2**20 / os.sysconf("SC_PAGE_SIZE")


def test_options_of_the_other_kind(refused, frames, tmp_path):
    assert refused("a", "b", "--live", "--fps=3") == "--fps has no use with --live"
    assert refused("a", "b", "--live", "--skip-unmatched") == "--skip-unmatched has no use with --live"
    assert refused("a", "b", "--seconds=3") == "--seconds has no use without --live"
    assert refused("a", "b", "--ir-options", "a=b") == "--ir-options has no use without --live"
    assert refused("none", "b", "--live").startswith("none: cannot be opened: No such file")
    assert refused("a", "b", "--live", "--fps=0") == "--fps has no use with --live"
    ir, vis = (write_clip(tmp_path / f"{side}.mkv", clip) for side, clip in zip(("ir", "vis"), frames, strict=True))
    assert refused(ir, vis, "--live", out="new/a.avi").endswith("the name of a clip must end in .mp4, .mov, .mkv")
    with pytest.raises(SystemExit):
        refused("a", "b", "--live", "--ir-options", "a")


@pytest.mark.filterwarnings("default")
def test_radiometric_clips_are_scaled_as_images_are(video, frames, weights_path, tmp_path, monkeypatch):
    monkeypatch.setattr("rpfnet_jax.data.checks._warned", set())
    counts = np.random.default_rng(5).integers(7160, 8585, (COUNT, 24, 40)).astype(np.uint16)
    with av.open(str(tmp_path / "ir.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 24, 40, "gray16le"
        for number, values in enumerate(counts):
            frame = av.VideoFrame.from_ndarray(values, format="gray16le")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    vis = write_clip(tmp_path / "vis.mkv", frames[1])
    warned = video(tmp_path / "ir.mkv", vis, "--lossless")
    assert warned.err.startswith(f"warning: {tmp_path / 'ir.mkv'}: the infrared image uses 2.2% of its 16-bit range")
    assert warned.err.count("\n") == 1
    assert video(tmp_path / "ir.mkv", vis, "--lossless", "--ir-scaling=range:7160,8584").err == ""
    net = load(weights_path, "running")
    expected = [net.fuse(counts[number], frames[1][number], ir_scaling="range:7160,8584") for number in range(COUNT)]
    np.testing.assert_array_equal(images(open_clip(tmp_path / "new" / "out.mkv")), expected)
