import errno
import pickle
import struct
import sys
import wave
from fractions import Fraction

import av
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


def images(clip):
    return [frame.image.pixels for frame in clip]


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
        np.testing.assert_array_equal(images(clip), frames)
    assert [path.name for path in clip.path.parent.iterdir()] == [f"a.{suffix}"]


@pytest.mark.parametrize("shape", [(48, 64), (47, 64), (48, 65), (17, 19)])
def test_any_size_is_kept_and_so_is_the_image(tmp_path, shape):
    frames = moving(4, shape)
    found = images(open_clip(write_clip(tmp_path / "a.mp4", frames, quality=5)))
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
        found = images(open_clip(write_clip(tmp_path / name, [frame[:crop] for frame in frames], quality=1)))
        for color, frame in zip(colors, found, strict=True):
            assert np.abs(frame.astype(int) - color).max() <= 4


def test_grey_frames_and_quality(tmp_path):
    grey = [frame[..., 0] for frame in moving(6)]
    fine, coarse = (write_clip(tmp_path / f"{q}.mp4", grey, quality=q) for q in (5, 45))
    assert coarse.stat().st_size < fine.stat().st_size
    first = images(open_clip(fine))[0]
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
        for count, pair in enumerate(paired_frames(ir, vis)):
            assert pair.ir.image.pixels.shape == pair.vis.image.pixels.shape == (480, 640, 3)
            assert (pair.ir.number, pair.vis.number, pair.time) == (count, count, Fraction(count, 25))
            if count < 6:
                writer.write(pair.vis.image.pixels)
    assert count == 19
    written = open_clip(tmp_path / "vis.mp4")
    error = [np.mean((a.image.pixels.astype(float) - b.image.pixels) ** 2) for a, b in zip(vis, written, strict=False)]
    assert len(error) == 6
    assert 10 * np.log10(255**2 / np.mean(error)) > 35


def test_folder(tmp_path):
    frames = moving(12)
    folder = write_folder(tmp_path / "clip", frames, "f_{}_ir.png")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"")
    clip = open_clip(folder)
    # 10 comes after 9, not after 1.
    np.testing.assert_array_equal(images(clip), frames)
    assert (clip.shape, clip.count, clip.fps) == ((48, 64), 12, None)
    grey = write_folder(tmp_path / "grey", [frame[..., 1] for frame in frames[:2]])
    np.testing.assert_array_equal(images(open_clip(grey))[1], frames[1][..., [1, 1, 1]])
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
    assert next(frames).image.pixels.shape == next(frames).image.pixels.shape == (48, 64, 3)
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
    np.testing.assert_array_equal(images(clip)[0], np.rot90(frame, -1))


def test_failure_keeps_what_was_written(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving(2))
    before = path.read_bytes()

    def fail_after(frames, error):
        with ClipWriter(path, 25) as writer:
            for frame in frames:
                writer.write(frame)
            raise error

    with pytest.raises(KeyError, match="mine"):
        fail_after([], KeyError("mine"))
    assert path.read_bytes() == before
    for frames, error in ((moving(80), KeyError("mine")), (moving(3), KeyboardInterrupt())):
        with pytest.raises(type(error)):
            fail_after(frames, error)
        assert len(images(open_clip(path))) == len(frames)
        assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_failure_of_the_writer_leaves_nothing_behind(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", moving(2))
    before = path.read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")
    writer = ClipWriter(path, 25)

    def fill_the_disk():
        with writer:
            monkeypatch.setattr(writer, "_encode", lambda *frame: (_ for _ in ()).throw(full))
            for frame in moving(9):
                writer.write(frame)

    with pytest.raises(OSError, match="No space left"):
        fill_the_disk()
    assert writer.written == 0
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
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "file"]


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


def test_deep_frames_of_a_folder(tmp_path):
    values = np.array([[0, 257 * 9], [65535, 257]], np.uint16)
    for number in range(2):
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    np.testing.assert_array_equal(images(open_clip(tmp_path)), [values] * 2)
    opaque = RNG.integers(0, 256, (4, 4, 4)).astype(np.uint8)
    for number in range(2):
        Image.fromarray(opaque).save(tmp_path / f"{number}.png")
    assert next(iter(open_clip(tmp_path))).image.alpha is None
    np.testing.assert_array_equal(images(open_clip(tmp_path)), [opaque[..., :3]] * 2)


def encode(path, frames, codec, layout, *, container=None, size=None):
    """Writes a file as other programs do, with any codec and pixel format."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.height, stream.width = size or frames[0].shape[:2]
        stream.pix_fmt = layout
        for index, pixels in enumerate(frames):
            frame = pixels
            if not isinstance(frame, av.VideoFrame):
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24" if pixels.ndim == 3 else layout)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("layout", "white"), [("gray16le", 65535), ("gray14le", 16383), ("gray12le", 4095)])
def test_deep_grey_keeps_its_values(tmp_path, layout, white):
    values = RNG.integers(white // 2, white + 1, (2, 24, 32)).astype(np.uint16)
    clip = open_clip(encode(tmp_path / "ir.nut", values, "rawvideo" if white == 16383 else "ffv1", layout))
    np.testing.assert_array_equal(images(clip), values)
    stored = next(iter(clip)).image
    assert (stored.white, stored.path) == (white, clip.path)


def test_ten_bit_clips_are_readable(tmp_path):
    ramp = np.tile(np.linspace(64, 940, 64).round().astype(np.uint16), (48, 1))
    planes = np.vstack([ramp, np.full((24, 64), 512, np.uint16)])
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p10le")
    (image,) = images(open_clip(encode(tmp_path / "a.mkv", [frame], "ffv1", "yuv420p10le", size=(48, 64))))
    assert image.shape == (48, 64, 3)
    assert (np.diff(image[0, :, 0].astype(int)) >= 0).all()
    assert len(np.unique(image[..., 0])) == 64


def test_cover_images_are_skipped(tmp_path):
    frames = moving(3)
    path = write_clip(tmp_path / "a.mkv", frames, lossless=True)
    with av.open(str(path)) as source, av.open(str(tmp_path / "covered.mp4"), "w") as target:
        cover = target.add_stream("mjpeg")
        cover.height, cover.width, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = target.add_stream_from_template(source.streams.video[0])
        target.mux(cover.encode(av.VideoFrame(16, 16, "yuvj420p")))
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with av.open(str(tmp_path / "covered.mp4")) as file:
        assert len(file.streams.video) == 2
    np.testing.assert_array_equal(images(open_clip(tmp_path / "covered.mp4")), frames)


@pytest.mark.parametrize("suffix", ["avi", "h264"])
def test_files_without_time_stamps_are_steady(tmp_path, suffix):
    # B-frames are stored in another order than they are shown in.
    encode(tmp_path / f"a.{suffix}", moving(12), "libx264", "yuv420p")
    clip = open_clip(tmp_path / f"a.{suffix}")
    assert [frame.time for frame in clip] == [Fraction(index, 25) for index in range(12)]


def test_time_stamps_that_start_again(tmp_path):
    half = encode(tmp_path / "half.ts", moving(6), "mpeg2video", "yuv420p", container="mpegts").read_bytes()
    (tmp_path / "a.ts").write_bytes(half * 2)
    with pytest.warns(UserWarning, match=r"a\.ts: frame 6 has no time stamp after that of the frame before"):
        times = [frame.time for frame in open_clip(tmp_path / "a.ts")]
    assert times == [Fraction(number, 25) for number in range(12)]


def test_a_last_frame_that_is_shown_for_long(tmp_path):
    # The file has nothing left of it: the clip is not cut short.
    with ClipWriter(tmp_path / "a.mp4", 25) as writer:
        for index, image in enumerate(moving(10)):
            writer.write(image, Fraction(index if index < 8 else 200 * (index - 7), 25))
    assert [float(frame.time) for frame in open_clip(tmp_path / "a.mp4")][-2:] == [8, 16]


def tone(path, seconds=2, codec="aac"):
    """A clip of 2 seconds at 25 frames per second, with a rising tone."""
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("libx264", rate=25), file.add_stream(codec, rate=48000)
        video.height, video.width = 48, 64
        for index, image in enumerate(moving(25 * seconds)):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        phase = np.cumsum(np.linspace(200, 2000, 48000 * seconds)) * 2 * np.pi / 48000
        samples = np.tile(8000 * np.sin(phase), (2, 1)).T.reshape(1, -1).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        sound.pts, sound.sample_rate, sound.time_base = 0, 48000, Fraction(1, 48000)
        file.mux(audio.encode(sound))
        file.mux(audio.encode(None))
    return path


def heard(path):
    """(codec, first time, samples) of a file's sound."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        frames = list(file.decode(stream))
        return stream.codec_context.name, frames[0].time, np.concatenate([frame.to_ndarray()[0] for frame in frames])


@pytest.mark.parametrize(("source", "target"), [("mp4", "mp4"), ("mp4", "mkv"), ("mkv", "mov")])
def test_sound_goes_along(tmp_path, source, target):
    clip = open_clip(tone(tmp_path / f"a.{source}"))
    with ClipWriter(tmp_path / f"b.{target}", clip) as writer:
        for frame in clip:
            writer.write(frame.image.pixels, frame.time)
    codec, start, samples = heard(clip.path)
    assert codec == "aac"
    fused = open_clip(tmp_path / f"b.{target}")
    assert fused.start == 0
    assert len(list(fused)) == 50
    found = heard(fused.path)
    assert found[0] == codec
    # Matroska has no place for the encoder's first packet, which is before 0; the next one depends on it.
    delay = round((found[1] - start) * 48000)
    assert 0 <= delay <= 1024
    part = found[2][2048 - delay : len(samples) - 2048 - delay]
    # The decoder fills bands with noise.
    np.testing.assert_allclose(part, samples[2048:-2048], atol=1e-4)


def test_sound_ends_with_the_frames(tmp_path):
    clip = open_clip(tone(tmp_path / "a.mp4"))
    with ClipWriter(tmp_path / "b.mp4", clip) as writer:
        for frame in list(clip)[:10]:
            writer.write(frame.image.pixels, frame.time)
    assert len(heard(tmp_path / "b.mp4")[2]) / 48000 == pytest.approx(0.4, abs=0.05)


def test_sound_that_does_not_fit(tmp_path):
    clip = open_clip(tone(tmp_path / "a.mkv", 1, "pcm_s24le"))
    frames = images(clip)
    with pytest.warns(UserWarning, match=r"a\.mkv: sound is left out \(mp4 does not take this pcm_s24le; try \.mkv"):
        write_clip(tmp_path / "b.mp4", frames, clip)
    replaced = open_clip(clip.path, fps=10)
    with pytest.warns(UserWarning, match="sound is left out .another frame rate was given"):
        write_clip(tmp_path / "b.mkv", frames, replaced)
    for name in ("b.mp4", "b.mkv"):
        assert len(list(open_clip(tmp_path / name))) == 25
        assert not open_clip(tmp_path / name).sound
