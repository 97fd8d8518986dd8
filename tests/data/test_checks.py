"""Warnings of images that are usable but probably not what the user meant."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.data import StoredImage, read_gray
from rpfnet_jax.data.checks import warn_of_input
from rpfnet_jax.files import InputWarning

RNG = np.random.default_rng(6)


def warned(pixels, side="ir", scaled=False, name="folder/a.tif", **more):
    """The warnings of an image in a folder that no other test has."""
    folder = Path(f"{warned.__name__}-{RNG.integers(2**62)}")
    false_colors = more.pop("false_colors", True)
    image = StoredImage.of(pixels, path=folder / name, **more)
    with warnings.catch_warnings(record=True, category=InputWarning) as found:
        warnings.simplefilter("always")
        warn_of_input(image, side, scaled, false_colors)
        # Once for a folder.
        warn_of_input(StoredImage.of(pixels, path=folder / "folder/b.tif", **more), side, scaled, false_colors)
    return [str(warning.message).removeprefix(f"{folder}/") for warning in found]


SPREAD = np.linspace(0, 1, 60 * 80).reshape(60, 80)


def test_a_small_part_of_the_range_is_told_once_with_the_option():
    (message,) = warned((7160 + 1424 * SPREAD).astype(np.uint16))
    assert message == (
        "folder/a.tif: the infrared image uses 2.2% of its 16-bit range (values 7161 to 8582 of 0 to 65535) and "
        'appears nearly uniform; --ir-scaling=percentile:1,99 spreads it (in Python ir_scaling="percentile:1,99", in a '
        "configuration data.ir_scaling)"
    )
    (message,) = warned((7160 + 1424 * SPREAD).astype(np.uint16), "vis")
    assert "the visible image uses 2.2%" in message
    assert "--vis-scaling=percentile:1,99" in message


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ((16383 * SPREAD).astype(np.uint16), 1),  # 14 bits in 16.
        ((20000 * SPREAD).astype(np.uint16), 0),
        ((65535 * SPREAD).astype(np.uint16), 0),
        ((0.1 + 0.02 * SPREAD).astype(np.float32), 1),
        (SPREAD.astype(np.float32), 0),
        ((20 + 9 * SPREAD).astype(np.uint8), 0),  # 8 bits are taken as they are.
        (np.full((60, 80), 7311, np.uint16), 0),  # No scaling would change a uniform image.
        ((7160 + 1424 * SPREAD).astype(np.int16), 0),  # An error where it is used without scaling.
    ],
)
def test_what_counts_as_a_small_part(values, count):
    assert len(warned(values)) == count


def test_dead_pixels_do_not_hide_a_small_part():
    counts = (7160 + 1424 * SPREAD).astype(np.uint16)
    counts[3, 4], counts[5, 6] = 65535, 0
    assert len(warned(counts)) == 1


def test_bits_count():
    assert warned((4095 * SPREAD).astype(np.uint16), white=4095) == []
    (message,) = warned((700 * SPREAD).astype(np.uint16), white=4095)
    assert "12-bit range" in message


def test_a_scaling_needs_no_warning():
    assert warned((7160 + 1424 * SPREAD).astype(np.uint16), scaled=True) == []


def test_false_colours():
    heat = np.dstack([255 * SPREAD, 255 * (1 - np.abs(2 * SPREAD - 1)), 255 * (1 - SPREAD)]).astype(np.uint8)
    (message,) = warned(heat)
    assert "false colours" in message
    assert warned(heat, "vis") == []
    assert warned(heat, false_colors=False) == []
    assert len(warned(heat.astype(np.uint16) * 257)) == 1
    gray = np.dstack([(255 * SPREAD).astype(np.uint8)] * 3)
    noise = RNG.integers(0, 12, gray.shape).astype(np.uint8)  # Of JPEG compression.
    logo = gray.copy()
    logo[:8, :60] = 255, 0, 0
    for image in (gray, gray // 2 + noise, logo):
        assert warned(image) == []


def test_several_images():
    for side in ("ir", "vis"):
        (message,) = warned((255 * SPREAD).astype(np.uint8), side, several=True)
        assert message == "folder/a.tif: the file holds several images, and only the first is used"


def test_reading_in_8_bits_tells_what_is_lost(tmp_path):
    Image.fromarray((7160 + 1424 * SPREAD).astype(np.uint16)).save(tmp_path / "a.png")
    with pytest.warns(InputWarning, match=r"a\.png: the image uses 2\.2% .*--ir-scaling=percentile:1,99"):
        assert read_gray(tmp_path / "a.png").max() == 33
