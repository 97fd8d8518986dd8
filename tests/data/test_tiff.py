"""TIFF: what tifffile and Pillow write, in many variants, is read as it was written, or rejected by name."""

import io
import itertools
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from rpfnet_jax.data import ImageError, read_image, read_stored
from rpfnet_jax.data.images import MAX_PIXELS, image_size
from rpfnet_jax.data.tiff import TiffError, read_tiff

RNG = np.random.default_rng(4)
TYPES = [np.dtype(name) for name in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")]
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def samples(dtype, *shape):
    if dtype.kind == "f":
        return RNG.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def read(data):
    return read_tiff(io.BytesIO(data), MAX_PIXELS)


# Photometric interpretation and samples per pixel.
KINDS = (("minisblack", 1), ("miniswhite", 1), ("minisblack", 2), ("rgb", 3), ("rgb", 4))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_combination_of_tags_is_read_as_it_was_written(dtype):
    """84 or 96 variants of each dtype: byte order, compression, predictor, strips or tiles, planes, orientation."""
    read_as_written = 0
    orientations = itertools.cycle(UPRIGHT)
    for order, compression, layout, planes, (photometric, channels) in itertools.product(
        "<>", (None, "zlib"), ("strips", "one strip", "tiles"), (1, 2), KINDS
    ):
        # "0 is white" is defined for unsigned numbers; one sample has no planes.
        if (photometric == "miniswhite" and dtype.kind != "u") or (planes == 2 and channels == 1):
            continue
        orientation = next(orientations)
        stored = samples(dtype, 19, 26, channels)
        data = io.BytesIO()
        tifffile.imwrite(
            data,
            (np.moveaxis(stored, 2, 0) if planes == 2 else stored.squeeze()).copy(),
            byteorder=order,
            compression=compression,
            # tifffile without imagecodecs can't write the predictor of floats, nor that of several samples.
            predictor=2 if compression == "zlib" and dtype.kind != "f" and channels == 1 else None,
            tile=(16, 16) if layout == "tiles" else None,
            rowsperstrip=5 if layout == "strips" else None,
            planarconfig=planes if channels > 1 else None,
            photometric=photometric,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            extratags=[(274, 3, 1, orientation, True)],
            metadata=None,
        )
        image = read(data.getvalue())
        expected = UPRIGHT[orientation](stored)
        if photometric == "miniswhite":
            expected = np.iinfo(dtype).max - expected
        colors = expected[..., 0] if channels <= 2 else expected[..., :3]
        variant = (order, compression, layout, planes, photometric, channels, orientation)
        np.testing.assert_array_equal(image.pixels, colors, err_msg=str(variant))
        assert image.pixels.dtype == (np.float32 if dtype == np.float16 else dtype), variant
        assert image.white == {"f": 1, "u1": 255, "u2": 65535}.get(dtype.kind if dtype.kind == "f" else dtype.str[1:])
        if channels in (2, 4) and image.white is not None:
            np.testing.assert_array_equal(
                image.alpha, expected[..., -1].astype(image.alpha.dtype), err_msg=str(variant)
            )
        else:
            assert image.alpha is None
        read_as_written += 1
    assert read_as_written >= 84


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation(tmp_path, orientation):
    stored, path = samples(np.dtype("u2"), 5, 8), tmp_path / "a.tif"
    tifffile.imwrite(path, stored, extratags=[(274, 3, 1, orientation, True)])
    image = read_stored(path)
    np.testing.assert_array_equal(image.pixels, UPRIGHT[orientation](stored))
    assert image_size(path) == image.pixels.shape


def directory(tags, data, order="<"):
    """A TIFF with one strip, of tags that tifffile and Pillow do not write."""
    entries = ImageFileDirectory_v2(prefix=b"II" if order == "<" else b"MM")
    for tag, value in ({262: 1, 277: 1, 278: tags[257], 279: len(data), 273: 0} | tags).items():
        entries[tag] = value
    return (b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08") + entries.tobytes(8) + data


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_number_of_bits(bits, order, channels):
    values = RNG.integers(0, 1 << bits, (7, 13, channels))
    each = (values.reshape(7, -1, 1) >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(each.reshape(7, -1).astype(np.uint8), axis=1)
    if bits == 16:
        rows = values.reshape(7, -1).astype(f"{order}u2")
    tags = {256: 13, 257: 7, 258: (bits,) * channels, 259: 1, 262: 1 if channels == 1 else 2, 277: channels}
    for reversed_bits in (False, True):
        data = rows.tobytes()
        if reversed_bits:
            data = np.packbits(np.unpackbits(rows.view(np.uint8).reshape(-1, 1), axis=1)[:, ::-1]).tobytes()
        image = read(directory(tags | {266: 2 if reversed_bits else 1}, data, order))
        white = (1 << bits) - 1
        expected = np.rint(values * (255 / white)) if bits < 8 else values
        np.testing.assert_array_equal(image.pixels, expected.squeeze())
        assert image.white == max(white, 255)
    # 4095 is white, in 8 bits and in 16.
    np.testing.assert_array_equal(image.eight_bit(), np.rint(values * (255 / white)).squeeze())
    if bits > 8:
        np.testing.assert_array_equal(image.full_range(), np.rint(values * (65535 / white)).squeeze())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["f2", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_predictor_of_floats(order, name, channels):
    values = RNG.normal(size=(6, 9, channels)).astype(name)
    # Adobe's TIFF Technical Note 3: the bytes of a row by significance, then differences at the distance of a pixel.
    planes = values.astype(f">{name}").view(np.uint8).reshape(6, 9 * channels, -1).swapaxes(1, 2).reshape(6, -1)
    differences = planes.copy()
    differences[:, channels:] -= planes[:, :-channels]
    size = 8 * values.itemsize
    tags = {256: 9, 257: 6, 258: (size,) * channels, 259: 8, 277: channels, 317: 3, 339: (3,) * channels}
    image = read(directory(tags | {262: 2 if channels == 3 else 1}, zlib.compress(differences), order))
    np.testing.assert_array_equal(image.pixels, values.squeeze().astype(np.float32 if name == "f2" else name))


COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "zstd", "jpeg", "group3", "group4")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_what_pillow_writes(mode):
    color = Image.fromarray(samples(np.dtype("u1"), 6, 8, 4)[..., :3]).resize((64, 48))
    image = Image.fromarray(np.array(color.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else None
    image = image or color.convert(mode)
    shown = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}.get(mode, mode)
    for compression in COMPRESSIONS:
        if compression.startswith("group") != (mode == "1") and compression not in COMPRESSIONS[:5]:
            continue
        if compression == "jpeg" and mode in ("P", "I;16", "F", "LA"):
            continue
        data = io.BytesIO()
        image.save(data, "TIFF", compression=compression)
        with Image.open(data) as file:
            expected = np.array(file.convert(shown))
        found = read(data.getvalue())
        pixels = found.pixels if found.alpha is None else np.dstack([found.pixels, found.alpha])
        if mode == "YCbCr":
            # Of compressed ones libtiff makes RGB itself, rounded differently.
            np.testing.assert_allclose(pixels.astype(int), expected, atol=1, err_msg=compression)
        else:
            np.testing.assert_array_equal(pixels, expected, err_msg=compression)


def test_associated_alpha_is_divided_out():
    alpha = np.array([[0, 51, 255]], np.uint8)
    color = np.array([[[0, 0, 0], [10, 20, 51], [1, 2, 3]]], np.uint8)
    data = io.BytesIO()
    tifffile.imwrite(data, np.dstack([color, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    image = read(data.getvalue())
    np.testing.assert_array_equal(image.pixels, [[[0, 0, 0], [50, 100, 255], [1, 2, 3]]])
    np.testing.assert_array_equal(image.alpha, alpha)


def test_further_samples_of_colours_are_no_alpha():
    data, values = io.BytesIO(), samples(np.dtype("u1"), 5, 6, 4)
    tifffile.imwrite(data, values, photometric="rgb", extrasamples=["unspecified"])
    image = read(data.getvalue())
    assert image.alpha is None
    np.testing.assert_array_equal(image.pixels, values[..., :3])


def test_several_pages(tmp_path):
    pages = samples(np.dtype("u1"), 3, 40, 50)
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    image = read_stored(tmp_path / "stack.tif")
    assert image.several
    np.testing.assert_array_equal(image.pixels, pages[0])
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        writer.write(pages[0])
        writer.write(pages[0][::2, ::2], subfiletype=1)
    assert not read_stored(tmp_path / "pyramid.tif").several


@pytest.mark.parametrize("bigtiff", [False, True])
def test_bigtiff(bigtiff):
    data, values = io.BytesIO(), samples(np.dtype("u2"), 5, 6)
    tifffile.imwrite(data, values, bigtiff=bigtiff)
    np.testing.assert_array_equal(read(data.getvalue()).pixels, values)


def written(values, **options):
    data = io.BytesIO()
    tifffile.imwrite(data, values, **options)
    return data.getvalue()


U1, U2 = (samples(np.dtype(name), 16, 16) for name in ("u1", "u2"))
REJECTED = {
    "128-bit complex": lambda: written(U1.astype(np.complex128)),
    "24-bit": lambda: directory({256: 2, 257: 1, 258: 24, 259: 1}, bytes(6)),
    "0 is white": lambda: written(U1.astype(np.float32), photometric="miniswhite"),
    r"CIE L\*a\*b\*": lambda: directory({256: 2, 257: 1, 258: (8,) * 3, 259: 1, 262: 8, 277: 3}, bytes(6)),
    "sensor data": lambda: directory({256: 2, 257: 1, 258: 8, 259: 1, 262: 32803}, bytes(2)),
    "kind of CMYK": lambda: written(np.dstack([U2] * 4), photometric="separated"),
    "kind of YCbCr": lambda: directory({256: 2, 257: 2, 258: (8,) * 3, 259: 1, 262: 6, 277: 3}, bytes(12)),
    "5 samples per pixel": lambda: written(np.dstack([U1] * 5), photometric="minisblack", planarconfig="contig"),
    "differ in kind": lambda: directory({256: 2, 257: 1, 258: (5, 6, 5), 259: 1, 262: 2, 277: 3}, bytes(4)),
    "old-style JPEG": lambda: directory({256: 2, 257: 1, 258: 8, 259: 6}, bytes(2)),
    "JPEG XL": lambda: directory({256: 2, 257: 1, 258: 8, 259: 50002}, bytes(2)),
    "compression 999": lambda: directory({256: 2, 257: 1, 258: 8, 259: 999}, bytes(2)),
    "JPEG compression of 12 bits": lambda: directory({256: 2, 257: 1, 258: 12, 259: 7}, bytes(2)),
    "predictor 3 of 8-bit": lambda: directory({256: 2, 257: 1, 258: 8, 259: 8, 317: 3}, zlib.compress(bytes(2))),
    "big-endian BigTIFF": lambda: written(U1, bigtiff=True, byteorder=">"),
    "palette has too few": lambda: directory({256: 2, 257: 1, 258: 8, 259: 1, 262: 3, 320: (0,) * 9}, b"\x01\x03"),
    "no image size": lambda: directory({256: 2, 257: 0, 258: 8, 259: 1}, bytes(2)),
    "too large": lambda: directory({256: 70000, 257: 70000, 258: 8, 259: 1}, bytes(2)),
    "truncated$": lambda: written(U2)[:-9],
    r"truncated or damaged \(Deflate": lambda: directory({256: 2, 257: 1, 258: 8, 259: 8}, b"no such data"),
    "strips or tiles are needed": lambda: directory({256: 2, 257: 9, 258: 8, 259: 1, 278: 2}, bytes(18)),
    "impossible size": lambda: directory({256: 2, 257: 1, 258: 8, 259: 1, 278: 0}, bytes(2)),
}


@pytest.mark.parametrize("reason", REJECTED)
def test_what_is_not_supported_is_rejected_by_name(tmp_path, reason):
    with pytest.raises(TiffError, match=reason):
        read(REJECTED[reason]())
    (tmp_path / "a.tif").write_bytes(REJECTED[reason]())
    with pytest.raises(ImageError, match=rf"a\.tif: .*{reason}"):
        read_image(tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore")  # Pillow's, about damaged tags.
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_cut_of_a_file_is_an_image_error(tmp_path, compression, capfd):
    whole, path = written(U2, compression=compression), tmp_path / "cut.tif"
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_image(path)
    # libtiff itself prints nothing.
    assert capfd.readouterr() == ("", "")
