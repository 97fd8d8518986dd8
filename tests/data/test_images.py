import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.data import ImageError, read_gray, read_image, write_png
from rpfnet_jax.data import images as images_module

RNG = np.random.default_rng(3)
GRAY = RNG.integers(0, 256, (7, 11), dtype=np.uint8)
RGB = RNG.integers(0, 256, (7, 11, 3), dtype=np.uint8)


def test_gray_and_rgb(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "g.png")
    Image.fromarray(RGB).save(tmp_path / "c.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "g.png"), GRAY)
    np.testing.assert_array_equal(read_image(str(tmp_path / "c.bmp")), RGB)
    assert read_image(tmp_path / "c.bmp").flags.writeable


def test_alpha_is_dropped(tmp_path):
    alpha = RNG.integers(0, 256, (7, 11), dtype=np.uint8)
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "rgba.png")
    Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), GRAY)


def test_palette_with_and_without_transparency(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    expected = np.array(palette.convert("RGB"))
    palette.save(tmp_path / "p.png")
    palette.save(tmp_path / "t.png", transparency=bytes(range(16)))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "t.png"), expected)


def test_cmyk_and_one_bit(tmp_path):
    Image.new("CMYK", (11, 7), (0, 255, 255, 0)).save(tmp_path / "c.tif")
    red = read_image(tmp_path / "c.tif")
    assert red.shape == (7, 11, 3)
    assert (red == (255, 0, 0)).all()
    bits = Image.fromarray(GRAY).convert("1")
    bits.save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), np.array(bits) * np.uint8(255))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_is_scaled_linearly(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257], [257 * 100 + 128, 257 * 100 + 129, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"deep.{suffix}"), [[0, 0, 1, 1], [100, 101, 255, 255]])


def test_modes_without_a_defined_range(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "i.tif")
    for name, reason in (("f.tif", "float"), ("i.tif", "32-bit integers")):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored lying on its side: turn clockwise to view.
    Image.fromarray(RGB).save(tmp_path / "e.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "e.png"), np.rot90(RGB, -1))


def bomb(path) -> None:
    """A PNG whose header claims 30000 by 30000 pixels."""
    Image.new("L", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 30000, 30000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


def test_unreadable_files_name_file_and_reason(tmp_path, monkeypatch):
    jpeg = tmp_path / "cut.jpg"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:900])
    png = tmp_path / "cut.png"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(png)
    png.write_bytes(png.read_bytes()[:5000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (tmp_path / "folder.png").mkdir()
    bomb(tmp_path / "bomb.png")
    reasons = {
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "empty.png": "empty",
        "text.png": "not a picture",
        "script.png": "not a picture",
        "folder.png": r"directory|denied",
        "bomb.png": "too large",
        "absent.png": "No such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(tmp_path / name)
        message = str(caught.value)
        assert str(tmp_path / name) in message
        assert "\n" not in message
        assert caught.value.path == tmp_path / name
        assert caught.value.reason in message
    Image.fromarray(GRAY).save(tmp_path / "g.png")
    monkeypatch.setattr(images_module, "MAX_PIXELS", 76)
    with pytest.raises(ImageError, match="too large: 7\u00d711"):
        read_image(tmp_path / "g.png")


def test_every_cut_of_a_file_is_an_image_error(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(RGB).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 30, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_image(path)


def test_image_error_survives_pickling(tmp_path):
    error = pickle.loads(pickle.dumps(ImageError(tmp_path / "a.png", "broken")))
    assert (error.path, error.reason) == (tmp_path / "a.png", "broken")
    assert isinstance(error, ValueError)


def test_read_gray_is_luma_rounded_half_to_even(tmp_path):
    # 0.114 * 250 = 28.5, a tie, goes to the even 28.
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 250], [9, 9, 9]]], dtype=np.uint8)
    Image.fromarray(colors).save(tmp_path / "c.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "c.png"), [[76, 150, 29, 28, 9]])
    Image.fromarray(np.dstack([GRAY] * 3)).save(tmp_path / "g3.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "g3.png"), GRAY)
    Image.fromarray(GRAY).save(tmp_path / "g.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "g.png"), GRAY)


@pytest.mark.parametrize("image", [GRAY, RGB, RGB[::-1, ::2]])
def test_write_png_round_trip(tmp_path, image):
    target = tmp_path / "new" / "deep" / "a.png"
    write_png(target, image)
    np.testing.assert_array_equal(read_image(target), image)
    assert [path.name for path in target.parent.iterdir()] == ["a.png"]


def test_write_png_is_atomic(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    write_png(target, GRAY)

    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            write_png(target, GRAY + 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_png(target, GRAY + 1)
    np.testing.assert_array_equal(read_image(target), GRAY)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    write_png(target, RGB)
    np.testing.assert_array_equal(read_image(target), RGB)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_write_png_honours_the_umask(tmp_path):
    write_png(tmp_path / "a.png", GRAY)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_write_png_refuses_other_arrays_and_names(tmp_path):
    # Under type checking the annotations refuse wrong arrays first, hence TypeError.
    for image in (GRAY.astype(np.float32), RGB[..., :2], RGB[None], np.zeros((0, 4), np.uint8)):
        with pytest.raises((ValueError, TypeError)):
            write_png(tmp_path / "a.png", image)
    with pytest.raises(ValueError, match=r"end in \.png"):
        write_png(tmp_path / "a.jpg", GRAY)
    assert not list(tmp_path.iterdir())
