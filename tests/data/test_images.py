import os
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from rpfnet_jax.data import ImageError, read_gray, read_image, read_stored, write_image, write_png
from rpfnet_jax.data import images as images_module
from rpfnet_jax.data.images import SUFFIXES, from_pillow, image_size

RNG = np.random.default_rng(3)
GRAY = RNG.integers(0, 256, (7, 11), dtype=np.uint8)
RGB = RNG.integers(0, 256, (7, 11, 3), dtype=np.uint8)


def test_gray_and_rgb(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "g.png")
    Image.fromarray(RGB).save(tmp_path / "c.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "g.png"), GRAY)
    np.testing.assert_array_equal(read_image(str(tmp_path / "c.bmp")), RGB)
    assert read_image(tmp_path / "c.bmp").flags.writeable


def test_alpha_stays_beside_the_pixels(tmp_path):
    alpha = RNG.integers(0, 256, (7, 11), dtype=np.uint8)
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "rgba.png")
    Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    for name, pixels in (("rgba.png", RGB), ("la.png", GRAY)):
        np.testing.assert_array_equal(read_image(tmp_path / name), pixels)
        np.testing.assert_array_equal(read_stored(tmp_path / name).alpha, alpha)
    # A colour that counts as transparent.
    Image.fromarray(RGB).save(tmp_path / "key.png", transparency=tuple(RGB[2, 3].tolist()))
    stored = read_stored(tmp_path / "key.png")
    np.testing.assert_array_equal(stored.pixels, RGB)
    np.testing.assert_array_equal(stored.alpha, np.where((RGB[2, 3] == RGB).all(axis=2), 0, 255))


def test_palette_with_and_without_transparency(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    expected = np.array(palette.convert("RGB"))
    palette.save(tmp_path / "p.png")
    palette.save(tmp_path / "t.png", transparency=bytes(range(16)))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "t.png"), expected)
    assert read_stored(tmp_path / "p.png").alpha is None
    np.testing.assert_array_equal(read_stored(tmp_path / "t.png").alpha, np.array(palette))


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


def png(values, color_type, filters=(0,)):
    """A PNG of 16 bits, with channels that Pillow does not write; rows take turns in their filters."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, -1).astype(int)
    step, above, lines = 2 * channels, np.zeros(rows.shape[1], int), []
    for index, row in enumerate(rows):
        kind = filters[index % len(filters)]
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        lines.append(bytes([kind, *((row - (0, left, above, (left + above) // 2)[kind]) % 256)]))
        above = row
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(lines))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("channels", "color_type"), [(2, 4), (3, 2), (4, 6)])
@pytest.mark.parametrize("lazily", [False, True], ids=["file", "Pillow's image"])
def test_png_of_several_channels_keeps_its_16_bits(tmp_path, channels, color_type, lazily):
    values = RNG.integers(0, 65536, (9, 11, channels)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png(values, color_type, filters=(0, 1, 2, 3)))
    if lazily:
        with Image.open(tmp_path / "a.png") as image:
            stored = from_pillow(image)
    else:
        stored = read_stored(tmp_path / "a.png")
    assert (stored.pixels.dtype, stored.white) == (np.uint16, 65535)
    np.testing.assert_array_equal(stored.pixels, values[..., 0] if channels == 2 else values[..., :3])
    if channels == 3:
        assert stored.alpha is None
    else:
        np.testing.assert_array_equal(stored.alpha, values[..., -1])


@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
@pytest.mark.parametrize("white", [1000, 16383, 65535])
def test_pnm_keeps_its_values(tmp_path, kind, white):
    shape = (4, 5, 3) if kind in ("P3", "P6") else (4, 5)
    values = RNG.integers(0, white + 1, shape).astype(np.uint16)
    values[0, 0] = white
    plain = b"# a remark\n" + " ".join(map(str, values.ravel())).encode()
    data = plain if kind in ("P2", "P3") else values.astype(">u2").tobytes()
    path = tmp_path / "a.pnm"
    path.write_bytes(f"{kind}\n5 4\n{white}\n".encode() + data)
    stored = read_stored(path)
    assert stored.white == white
    np.testing.assert_array_equal(stored.pixels, values)
    np.testing.assert_array_equal(read_image(path), np.rint(values * (255 / white)))
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ImageError, match="truncated"):
        read_stored(path)
    path.write_bytes(f"{kind}\n5 4\n{white - 1}\n".encode() + data)
    with pytest.raises(ImageError, match="beyond the maximum"):
        read_stored(path)


def test_jpeg_2000_of_more_than_8_bits(tmp_path):
    values, path = RNG.integers(0, 65536, (20, 30)).astype(np.uint16), tmp_path / "a.jp2"
    Image.fromarray(values).save(path)
    stored = read_stored(path)
    assert stored.white == 65535
    np.testing.assert_array_equal(stored.pixels, values)
    Image.fromarray(RGB).resize((30, 20)).save(path)
    assert read_stored(path).white == 255
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 11
    path.write_bytes(data)
    with pytest.raises(ImageError, match="JPEG 2000 of 12 bits in several channels is not supported"):
        read_stored(path)


def test_a_tiff_that_pillow_has_opened_is_read_like_the_file(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGES["uint16"], photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    with Image.open(path) as image:
        np.testing.assert_array_equal(from_pillow(image).pixels, np.rot90(IMAGES["uint16"], -1))


def test_modes_without_a_defined_range(tmp_path):
    Image.fromarray(np.full((4, 4), 1.5, np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.full((4, 4), 7000, np.int32)).save(tmp_path / "i.tif")
    for name, reason in (
        ("f.tif", r"must lie in \[0, 1\], got \[1.5, 1.5\]"),
        ("i.tif", "32-bit signed values have no"),
    ):
        with pytest.raises(ImageError, match=rf"{reason}.*--ir-scaling") as caught:
            read_image(tmp_path / name)
        assert caught.value.path == tmp_path / name
    levels = np.array([[0, 0.4 / 255, 1.6 / 255, 1]], np.float32)
    Image.fromarray(levels).save(tmp_path / "f.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif"), [[0, 0, 2, 255]])


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored lying on its side: turn clockwise to view.
    Image.fromarray(RGB).save(tmp_path / "e.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "e.png"), np.rot90(RGB, -1))
    assert image_size(tmp_path / "e.png") == (11, 7)


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
    for image in (GRAY.astype(np.float32), RGB[..., :1], RGB[None], np.zeros((0, 4), np.uint8)):
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
    """By programs other than ours."""
    return np.array(Image.open(path)) if path.suffix == ".png" else tifffile.imread(path)


@pytest.mark.parametrize("dtype", list(SUFFIXES))
@pytest.mark.parametrize("kind", ["colour", "grey", "one channel", "strided", "alpha", "grey alpha"])
def test_what_is_written_is_read_again(tmp_path, dtype, kind):
    colour = IMAGES[dtype]
    views = {"colour": colour, "grey": colour[..., 0], "one channel": colour[..., :1], "strided": colour[::2, ::-1]}
    views |= {"alpha": np.dstack([colour, colour[..., 0]]), "grey alpha": colour[..., :2]}
    path = tmp_path / "new" / f"a{SUFFIXES[dtype]}"
    write_image(path, views[kind])
    stored = read_stored(path)
    ours = stored.pixels if stored.alpha is None else np.dstack([stored.pixels, stored.alpha])
    for found in (read(path), ours):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, views[kind].squeeze())
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert image_size(path) == stored.pixels.shape[:2]
    if dtype == "uint8":
        np.testing.assert_array_equal(read_image(path), stored.pixels)


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
