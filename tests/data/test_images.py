import os
import pickle
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from rpfnet_jax.data import ImageError, read_gray, read_image, write_png
from rpfnet_jax.data import images as images_module
from rpfnet_jax.data.images import SUFFIXES, check_writable, write_image
from rpfnet_jax.data.thermal import read_raw

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
        "text.png": "not an image",
        "script.png": "not an image",
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


def test_write_png_rejects_other_arrays_and_names(tmp_path):
    # Under type checking the annotations refuse wrong arrays first, hence TypeError.
    for image in (GRAY.astype(np.float32), RGB[..., :2], RGB[None], np.zeros((0, 4), np.uint8)):
        with pytest.raises((ValueError, TypeError)):
            write_png(tmp_path / "a.png", image)
    with pytest.raises(ValueError, match=r"end in \.png"):
        write_png(tmp_path / "a.jpg", GRAY)
    assert not list(tmp_path.iterdir())


IMAGES = {
    "uint8": RNG.integers(0, 2**8, (7, 11, 3)).astype(np.uint8),
    "uint16": RNG.integers(0, 2**16, (7, 11, 3)).astype(np.uint16),
    "float32": RNG.random((7, 11, 3), np.float32),
}


def read(path):
    return read_image(path) if path.suffix == ".png" else tifffile.imread(path)


@pytest.mark.parametrize("dtype", list(SUFFIXES))
@pytest.mark.parametrize("kind", ["colour", "grey", "one channel", "strided"])
def test_what_is_written_is_read_again(tmp_path, dtype, kind):
    colour = IMAGES[dtype]
    views = {"colour": colour, "grey": colour[..., 0], "one channel": colour[..., :1], "strided": colour[::2, ::-1]}
    path = tmp_path / "new" / f"a{SUFFIXES[dtype]}"
    write_image(path, views[kind])
    found = read(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, views[kind].squeeze())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_tiff_is_read_by_others_than_tifffile(tmp_path):
    for dtype in ("uint16", "float32"):
        write_image(tmp_path / f"{dtype}.tif", IMAGES[dtype][..., 0])
        # By Pillow.
        np.testing.assert_array_equal(read_raw(tmp_path / f"{dtype}.tif"), IMAGES[dtype][..., 0])
    write_image(tmp_path / "colour.tif", IMAGES["uint16"])
    with tifffile.TiffFile(tmp_path / "colour.tif") as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
        assert len(file.pages) == 1


@pytest.mark.parametrize(
    ("dtype", "name", "message"),
    [
        ("uint8", "a.tif", r"a\.tif: uint8 is written as \.png"),
        ("uint16", "a.png", r"a\.png: uint16 is written as \.tif"),
        ("float64", "a.tif", "float64 is written as nothing"),
        ("bool", "a.png", "bool is written as nothing"),
    ],
)
def test_other_dtypes_and_suffixes_are_rejected(tmp_path, dtype, name, message):
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, np.zeros((4, 4), dtype))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", list(SUFFIXES))
def test_a_write_that_fails_names_the_image_and_keeps_the_older_one(tmp_path, monkeypatch, dtype):
    path = tmp_path / f"a{SUFFIXES[dtype]}"
    write_image(path, IMAGES[dtype])

    def fail(source, target):
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="can't be written: No space left on device") as caught:
        write_image(path, 1 - IMAGES[dtype])
    assert str(caught.value).startswith(f"{path}: ")
    np.testing.assert_array_equal(read(path), IMAGES[dtype])
    assert list(tmp_path.iterdir()) == [path]


def test_tiff_needs_tifffile_and_png_does_not(tmp_path, monkeypatch):
    for dtype in SUFFIXES:
        check_writable(dtype)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    check_writable("uint8")
    write_image(tmp_path / "a.png", IMAGES["uint8"])
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB"
    for dtype in ("uint16", "float32"):
        with pytest.raises(ModuleNotFoundError, match=r"rpfnet-jax\[tiff\]"):
            check_writable(dtype)
        with pytest.raises(ModuleNotFoundError, match=r"rpfnet-jax\[tiff\]"):
            write_image(tmp_path / "b.tif", IMAGES[dtype])
