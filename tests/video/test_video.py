import pickle
import struct
import sys
import tracemalloc
import wave
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.data import write_png
from rpfnet_jax.video import ClipError, ClipWriter, open_clip, paired_frames

RNG = np.random.default_rng(11)


def moving(count, shape=(48, 64), seed=0):
    """Coloured blocks that drift to the right, uint8 (h, w, 3)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (shape[0] // 8 + 1, shape[1] // 8 + 1, 3)).astype(np.uint8)
    image = blocks.repeat(8, axis=0).repeat(8, axis=1)[: shape[0], : shape[1]]
    return [np.roll(image, 2 * index, axis=1) for index in range(count)]


def write_clip(path, frames, fps=25, **options):
    with ClipWriter(path, fps, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write_folder(folder, frames, name="{:03d}.png"):
    for index, frame in enumerate(frames):
        write_png(folder / name.format(index), frame)
    return folder


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("shape", [(48, 64), (47, 65)])
def test_lossless_clip_comes_back_bit_by_bit(tmp_path, suffix, shape):
    frames = [RNG.integers(0, 256, (*shape, 3)).astype(np.uint8) for _ in range(5)]
    clip = open_clip(write_clip(tmp_path / "new" / f"a.{suffix}", frames, lossless=True))
    assert (clip.shape, clip.fps, clip.count) == (shape, 25, None if suffix == "mkv" else 5)
    for _ in range(2):
        np.testing.assert_array_equal(list(clip), frames)
    assert [path.name for path in clip.path.parent.iterdir()] == [f"a.{suffix}"]


@pytest.mark.parametrize("shape", [(48, 64), (47, 64), (48, 65), (17, 19)])
def test_any_size_is_kept_and_so_is_the_image(tmp_path, shape):
    frames = moving(4, shape)
    found = list(open_clip(write_clip(tmp_path / "a.mp4", frames, quality=5)))
    assert len(found) == 4
    for frame, original in zip(found, frames, strict=True):
        assert frame.shape == original.shape
        assert frame.dtype == np.uint8
        # 4:2:0 blurs colours at their borders, so luminance is compared.
        luma = (frame.astype(float) - original) @ [0.2126, 0.7152, 0.0722]
        assert np.sqrt(np.mean(luma**2)) < 5


def test_colors_survive(tmp_path):
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 30, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0)]
    frames = [np.full((32, 32, 3), color, np.uint8) for color in colors]
    # On odd sides too, which are stored differently.
    for name, crop in (("even.mp4", 32), ("odd.mp4", 31)):
        found = list(open_clip(write_clip(tmp_path / name, [frame[:crop] for frame in frames], quality=1)))
        for color, frame in zip(colors, found, strict=True):
            assert np.abs(frame.astype(int) - color).max() <= 4


def test_grey_frames_and_quality(tmp_path):
    grey = [frame[..., 0] for frame in moving(6)]
    fine, coarse = (write_clip(tmp_path / f"{q}.mp4", grey, quality=q) for q in (5, 45))
    assert coarse.stat().st_size < fine.stat().st_size
    first = next(iter(open_clip(fine)))
    np.testing.assert_array_equal(first[..., 0], first[..., 2])
    assert np.abs(first[..., 0].astype(int) - grey[0]).mean() < 3


@pytest.mark.parametrize("fps", [1, 12.5, 29.97, Fraction(30000, 1001), 60])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frame_rate(tmp_path, fps, suffix):
    clip = open_clip(write_clip(tmp_path / f"a.{suffix}", moving(9), fps))
    assert abs(clip.fps / Fraction(fps) - 1) < 1e-4
    assert clip.count == (None if suffix == "mkv" else 9)
    assert open_clip(clip.path, fps=10).fps == 10


def test_a_real_clip(shared_dir, tmp_path):
    root = shared_dir / "data" / "video" / "clip"
    ir, vis = open_clip(root / "ir", fps=25), open_clip(root / "vis")
    assert (ir.shape, ir.count, ir.fps, vis.fps) == ((480, 640), 20, 25, None)
    with ClipWriter(tmp_path / "vis.mp4", 25) as writer:
        for count, (infrared, visible) in enumerate(paired_frames(ir, vis)):
            assert infrared.shape == visible.shape == (480, 640, 3)
            if count < 6:
                writer.write(visible)
    assert count == 19
    error = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(vis, open_clip(tmp_path / "vis.mp4"), strict=False)]
    assert len(error) == 6
    assert 10 * np.log10(255**2 / np.mean(error)) > 35


def test_folder(tmp_path):
    frames = moving(12)
    folder = write_folder(tmp_path / "clip", frames, "f_{}_ir.png")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"")
    clip = open_clip(folder)
    # 10 comes after 9, not after 1.
    np.testing.assert_array_equal(list(clip), frames)
    assert (clip.shape, clip.count, clip.fps) == ((48, 64), 12, None)
    grey = write_folder(tmp_path / "grey", [frame[..., 1] for frame in frames[:2]])
    np.testing.assert_array_equal(list(open_clip(grey))[1], frames[1][..., [1, 1, 1]])
    every_fifth = tmp_path / "sparse"
    for index in (10, 15, 20):
        write_png(every_fifth / f"{index}.png", frames[0])
    assert open_clip(every_fifth).count == 3


def test_bad_folders(tmp_path):
    def folder(name, *files):
        for file in files:
            write_png(tmp_path / name / file, moving(1)[0])
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    for path, reason in (
        (folder("empty"), "holds no images"),
        (folder("gap", "1.png", "2.png", "5.png", "6.png"), "missing between 2 and 5"),
        (folder("names", "ir_1.png", "vis_2.png"), "ir_1.png and vis_2.png differ"),
        (folder("suffix", "1_a.png", "1_b.png"), "1_a.png and 1_b.png differ"),
        (folder("twice", "01.png", "1.png"), "frame 1 twice: 01.png and 1.png"),
        (folder("unnumbered", "a.png"), "a.png has no number"),
        (tmp_path / "absent", "no such file or folder"),
    ):
        with pytest.raises(ClipError, match=reason) as caught:
            open_clip(path)
        assert caught.value.path == path
        assert "\n" not in str(caught.value)


def test_damaged_and_odd_images_of_a_folder(tmp_path):
    folder = write_folder(tmp_path / "clip", moving(4))
    (folder / "002.png").write_bytes((folder / "002.png").read_bytes()[:60])
    frames = iter(open_clip(folder))
    # Frames are read when they are asked for: the first two are fine.
    assert next(frames).shape == next(frames).shape == (48, 64, 3)
    with pytest.raises(ClipError, match=r"002\.png"):
        next(frames)
    write_png(folder / "002.png", moving(1, (40, 64))[0])
    with pytest.raises(ClipError, match="frame 2 is 40\u00d764, the first 48\u00d764"):
        list(open_clip(folder))


def cut(path, share, name):
    data = path.read_bytes()
    target = path.with_name(name)
    target.write_bytes(data[: int(len(data) * share)])
    return target


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.01])
def test_truncated_file(tmp_path, suffix, share):
    noise = [RNG.integers(0, 256, (48, 64, 3)).astype(np.uint8) for _ in range(30)]
    path = cut(write_clip(tmp_path / f"a.{suffix}", noise), share, f"cut.{suffix}")
    with pytest.raises(ClipError) as caught:
        list(open_clip(path))
    assert caught.value.path == path
    assert caught.value.reason
    assert "\n" not in str(caught.value)


def test_truncated_file_names_its_length(tmp_path):
    noise = [RNG.integers(0, 256, (48, 64, 3)).astype(np.uint8) for _ in range(30)]
    frames = open_clip(cut(write_clip(tmp_path / "a.mkv", noise), 0.7, "cut.mkv"))
    read = []
    with pytest.raises(ClipError) as caught:
        read.extend(frames)
    assert 10 < len(read) < 28
    assert caught.value.reason == f"cut short: ends after {len(read)} of about 30 frames"


def test_other_files_are_rejected(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("hello " * 200)
    for name, reason in (("empty.mp4", "cannot be read as a video"), ("text.mp4", "cannot be read as a video")):
        with pytest.raises(ClipError, match=reason) as caught:
            open_clip(tmp_path / name)
        assert caught.value.path == tmp_path / name
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(4000))
    with pytest.raises(ClipError, match="holds no video"):
        open_clip(tmp_path / "sound.wav")


def test_rotation_is_applied(tmp_path):
    frame = moving(1)[0]
    path = write_clip(tmp_path / "a.mp4", [frame] * 3, lossless=True)
    data = bytearray(path.read_bytes())
    # Of the track header: version and flags, two times, number, reserved, duration, 16 bytes, then the matrix.
    matrix = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[matrix : matrix + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    clip = open_clip(path)
    assert clip.shape == (64, 48)
    # A phone held upright: the sensor's left edge is shown at the top.
    np.testing.assert_array_equal(next(iter(clip)), np.rot90(frame, -1))


def test_few_frames_are_in_memory(tmp_path):
    shape, count = (120, 160), 60
    path = write_clip(tmp_path / "a.mp4", moving(count, shape))
    clip = open_clip(path)
    list(paired_frames(clip, clip))  # What is imported and cached once does not count.
    tracemalloc.start()
    total = sum(1 for _ in paired_frames(clip, clip))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == count
    assert peak < 10 * 3 * shape[0] * shape[1]


def test_pairs_must_agree(tmp_path):
    frames = moving(10)
    reference = open_clip(write_clip(tmp_path / "vis.mp4", frames))
    slow = open_clip(write_clip(tmp_path / "slow.mp4", frames, 12.5))
    short = open_clip(write_clip(tmp_path / "short.mp4", frames[:7]))
    small = open_clip(write_clip(tmp_path / "small.mp4", moving(10, (32, 40))))
    for other, numbers in ((slow, ("12.5", "25")), (short, ("7", "10")), (small, ("32\u00d740", "48\u00d764"))):
        with pytest.raises(ClipError) as caught:
            paired_frames(other, reference)
        message = str(caught.value)
        assert str(other.path) in message
        assert str(reference.path) in message
        assert all(number in message for number in numbers)
    assert sum(1 for _ in paired_frames(small, reference, same_size=False)) == 10
    # A folder has no rate of its own.
    folder = open_clip(write_folder(tmp_path / "ir", frames))
    assert sum(1 for _ in paired_frames(folder, slow)) == 10
    with pytest.raises(ClipError, match=r"25 frames per second, .* has 12\.5"):
        paired_frames(open_clip(folder.path, fps=25), slow)


def test_a_pair_that_ends_apart(tmp_path):
    longer = open_clip(write_folder(tmp_path / "long", moving(6)))
    shorter = open_clip(write_folder(tmp_path / "short", moving(5)))
    for first, second in ((longer, shorter), (shorter, longer)):
        frames = paired_frames(first, second)
        for _ in range(5):
            next(frames)
        with pytest.raises(ClipError, match=r"ends after 5 frames, .*long goes on \(its header promises 6\)") as caught:
            next(frames)
        assert caught.value.path == shorter.path


def test_failure_leaves_nothing_behind(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving(2))
    before = path.read_bytes()

    def fail_after(frames):
        with ClipWriter(path, 25) as writer:
            for frame in frames:
                writer.write(frame)
            raise KeyError("mine")

    for frames in ([], moving(80)):
        with pytest.raises(KeyError, match="mine"):
            fail_after(frames)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_writer_rejects(tmp_path):
    frame = moving(1)[0]
    with pytest.raises(ClipError, match="no frame was written"):
        write_clip(tmp_path / "a.mp4", [])
    with pytest.raises(ClipError, match=r"frame 1 has shape \(40, 64\), the first \(48, 64\)"):
        write_clip(tmp_path / "a.mp4", [frame, frame[:40]])
    with pytest.raises(ClipError, match=r"must end in \.mp4, \.mov, \.mkv"):
        ClipWriter(tmp_path / "a.avi", 25)
    with pytest.raises(ClipError, match=r"0\.\.51"):
        ClipWriter(tmp_path / "a.mp4", 25, quality=52)
    for fps in (0, -25, float("nan"), float("inf"), 1e-9):
        with pytest.raises(ClipError, match="frames per second must be a positive number"):
            ClipWriter(tmp_path / "a.mp4", fps)
    with pytest.raises(RuntimeError, match="with block"):
        ClipWriter(tmp_path / "a.mp4", 25).write(frame)
    with ClipWriter(tmp_path / "b.mp4", 25) as writer:
        writer.write(frame)
    with pytest.raises(RuntimeError, match="with block"):
        writer.write(frame)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ClipError, match=r"a\.mp4: cannot be written"), ClipWriter(tmp_path / "file" / "a.mp4", 25):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.mp4", "file"]


def test_clip_grows_under_another_name(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", 25) as writer:
        # More than the encoder holds back.
        for frame in moving(80):
            writer.write(frame)
        assert not (tmp_path / "a.mp4").exists()
        assert len(list(tmp_path.iterdir())) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_missing_pyav_is_explained(tmp_path, monkeypatch):
    write_folder(tmp_path / "clip", moving(2))
    path = write_clip(tmp_path / "a.mp4", moving(1))
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(list(open_clip(tmp_path / "clip"))) == 2
    for action in (lambda: open_clip(path), lambda: ClipWriter(tmp_path / "b.mp4", 25)):
        with pytest.raises(ImportError, match=r'pip install "rpfnet-jax\[video\]"'):
            action()


def test_clip_error_survives_pickling(tmp_path):
    error = pickle.loads(pickle.dumps(ClipError(tmp_path / "a.mp4", "broken")))
    assert (error.path, error.reason) == (tmp_path / "a.mp4", "broken")


def test_sixteen_bit_frames_are_read_as_images_are(tmp_path):
    values = np.array([[0, 257 * 9], [65535, 257]], np.uint16)
    for index in range(2):
        Image.fromarray(values).save(tmp_path / f"{index}.png")
    np.testing.assert_array_equal(next(iter(open_clip(tmp_path)))[..., 0], [[0, 9], [255, 1]])
