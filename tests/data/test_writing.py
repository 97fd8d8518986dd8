"""Fused pictures of every depth on disk."""

import os
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from rpfnet_jax.data.images import SUFFIXES, check_writable, read_image, write_image
from rpfnet_jax.data.thermal import read_raw

RNG = np.random.default_rng(4)
PICTURES = {
    "uint8": RNG.integers(0, 2**8, (7, 11, 3)).astype(np.uint8),
    "uint16": RNG.integers(0, 2**16, (7, 11, 3)).astype(np.uint16),
    "float32": RNG.random((7, 11, 3), np.float32),
}


def read(path):
    return read_image(path) if path.suffix == ".png" else tifffile.imread(path)


@pytest.mark.parametrize("dtype", list(SUFFIXES))
@pytest.mark.parametrize("kind", ["colour", "grey", "one channel", "strided"])
def test_what_is_written_is_read_again(tmp_path, dtype, kind):
    colour = PICTURES[dtype]
    picture = {"colour": colour, "grey": colour[..., 0], "one channel": colour[..., :1], "strided": colour[::2, ::-1]}
    path = tmp_path / "new" / f"a{SUFFIXES[dtype]}"
    write_image(path, picture[kind])
    found = read(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, picture[kind].squeeze())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_tiff_is_read_by_others_than_tifffile(tmp_path):
    for dtype in ("uint16", "float32"):
        write_image(tmp_path / f"{dtype}.tif", PICTURES[dtype][..., 0])
        # By Pillow.
        np.testing.assert_array_equal(read_raw(tmp_path / f"{dtype}.tif"), PICTURES[dtype][..., 0])
    write_image(tmp_path / "colour.tif", PICTURES["uint16"])
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
def test_other_kinds_are_refused(tmp_path, dtype, name, message):
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, np.zeros((4, 4), dtype))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", list(SUFFIXES))
def test_a_write_that_fails_names_the_picture_and_keeps_the_older_one(tmp_path, monkeypatch, dtype):
    path = tmp_path / f"a{SUFFIXES[dtype]}"
    write_image(path, PICTURES[dtype])

    def fail(source, target):
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="can't be written: No space left on device") as caught:
        write_image(path, 1 - PICTURES[dtype])
    assert str(caught.value).startswith(f"{path}: ")
    np.testing.assert_array_equal(read(path), PICTURES[dtype])
    assert list(tmp_path.iterdir()) == [path]


def test_tiff_needs_tifffile_and_png_does_not(tmp_path, monkeypatch):
    for dtype in SUFFIXES:
        check_writable(dtype)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    check_writable("uint8")
    write_image(tmp_path / "a.png", PICTURES["uint8"])
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB"
    for dtype in ("uint16", "float32"):
        with pytest.raises(ModuleNotFoundError, match=r"rpfnet-jax\[tiff\]"):
            check_writable(dtype)
        with pytest.raises(ModuleNotFoundError, match=r"rpfnet-jax\[tiff\]"):
            write_image(tmp_path / "b.tif", PICTURES[dtype])
