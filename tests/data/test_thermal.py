import numpy as np
import pytest
import tifffile
from PIL import Image

from rpfnet_jax.data import ImageError, Scalings, StoredImage, read_gray, read_image
from rpfnet_jax.data.thermal import (
    FULL,
    ThermalScaling,
    read_levels,
    read_raw,
    read_thermal,
    scale_thermal,
    scaled,
)

RNG = np.random.default_rng(5)
COUNTS = RNG.integers(7000, 9000, (40, 50)).astype(np.uint16)


def save(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_raw_sixteen_bit(tmp_path, suffix):
    raw = read_raw(save(tmp_path / f"a.{suffix}", COUNTS))
    assert raw.dtype == np.uint16
    np.testing.assert_array_equal(raw, COUNTS)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_raw_float_and_integers(tmp_path, compression):
    celsius = (RNG.random((9, 7), dtype=np.float32) - 0.5) * 80
    raw = read_raw(save(tmp_path / "f.tif", celsius, compression=compression))
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, celsius)
    millikelvin = RNG.integers(-400_000, 400_000, (9, 7)).astype(np.int32)
    raw = read_raw(save(tmp_path / "i.tif", millikelvin, compression=compression))
    assert raw.dtype == np.int32
    np.testing.assert_array_equal(raw, millikelvin)


def test_raw_eight_bit_is_what_read_gray_gives(tmp_path):
    color = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    for name, values in (("c.png", color), ("g.bmp", color[..., 0])):
        raw = read_raw(save(tmp_path / name, values))
        assert raw.dtype == np.uint8
        np.testing.assert_array_equal(raw, read_gray(tmp_path / name))


def test_orientation_is_applied_to_deep_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "e.png", COUNTS, exif=exif)
    np.testing.assert_array_equal(read_raw(path), np.rot90(COUNTS, -1))


def test_percentile_is_the_default(tmp_path):
    image, note = read_thermal(save(tmp_path / "a.png", COUNTS))
    low, high = np.percentile(COUNTS, [1, 99])
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, np.clip((COUNTS - low) / (high - low), 0, 1), atol=1e-6)
    clipped = np.mean((low > COUNTS) | (high < COUNTS))
    assert note == f"16-bit, percentile 1-99: {low:.7g}..{high:.7g} -> 0..1, {clipped:.1%} clipped"


def test_range_is_the_same_for_every_image(tmp_path):
    scaling = ThermalScaling("range", 7000, 9500)
    image, note = read_thermal(save(tmp_path / "a.tif", COUNTS), scaling)
    warmer, _ = read_thermal(save(tmp_path / "b.tif", COUNTS + np.uint16(250)), scaling)
    np.testing.assert_allclose(warmer - image, 0.1, atol=1e-6)
    assert note == "16-bit, range: 7000..9500 -> 0..1, 0.0% clipped"
    outside, note = read_thermal(tmp_path / "a.tif", ThermalScaling("range", 0, 100))
    assert (outside == 1).all()
    assert "100.0% clipped" in note


def test_full_is_what_read_image_does(tmp_path):
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = save(tmp_path / "a.png", every)
    image, note = read_thermal(path, ThermalScaling("full"))
    np.testing.assert_array_equal(np.rint(image * 255).astype(np.uint8), read_image(path))
    assert note == "16-bit, full: 0..65535 -> 0..1, 0.0% clipped"


@pytest.mark.parametrize("scaling", ["full", "percentile:5,95", "range:100,101"])
def test_eight_bit_passes_unchanged(tmp_path, scaling):
    levels = RNG.integers(0, 256, (6, 8)).astype(np.uint8)
    image, note = read_thermal(save(tmp_path / "a.png", levels), ThermalScaling.parse(scaling))
    np.testing.assert_array_equal(np.rint(image * 255), levels)
    assert note == "8-bit, full: 0..255 -> 0..1, 0.0% clipped"


def test_float_image_is_scaled(tmp_path):
    celsius = np.linspace(-20, 40, 61, dtype=np.float32).reshape(1, 61)
    image, note = read_thermal(save(tmp_path / "f.tif", celsius), ThermalScaling("range", -20, 40))
    np.testing.assert_allclose(image[0], np.arange(61) / 60, atol=1e-6)
    assert note.startswith("32-bit float, range: -20..40 -> 0..1")


def test_large_integers_keep_their_differences():
    values = np.array([[2**30, 2**30 + 1, 2**30 + 2]], dtype=np.int32)
    np.testing.assert_allclose(scale_thermal(values, ThermalScaling("percentile", 0, 100))[0], [[0, 0.5, 1]])


def test_constant_image_stays_dark_and_a_hot_spot_stays_hot(tmp_path):
    flat = np.full((40, 50), 7311, np.uint16)
    image, note = read_thermal(save(tmp_path / "flat.png", flat))
    assert (image == 0).all()
    assert note == "16-bit, percentile 1-99: both 7311, above it -> 1, else -> 0"
    flat[3, 4] = 9000
    flat[5, 6] = 10
    image, _ = read_thermal(save(tmp_path / "spot.png", flat))
    assert image[3, 4] == image.sum() == 1


def test_invalid_values_name_file_and_place(tmp_path):
    celsius = np.ones((4, 5), np.float32)
    celsius[2, 3:] = np.nan, np.inf
    path = save(tmp_path / "nan.tif", celsius)
    with pytest.raises(ImageError, match="2 of 20 values are NaN or infinite, the first at row 2, column 3") as caught:
        read_thermal(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_full_needs_a_defined_range(tmp_path):
    path = save(tmp_path / "f.tif", 2 * np.eye(5, dtype=np.float32))
    with pytest.raises(ImageError, match=r"f\.tif: a floating point image must lie in \[0, 1\], got \[0, 2\]"):
        read_thermal(path, FULL)
    path = save(tmp_path / "i.tif", np.full((5, 5), 7000, np.int32))
    with pytest.raises(ImageError, match="32-bit signed values have no defined white and need a scaling"):
        read_thermal(path, FULL)
    image, note = read_thermal(save(tmp_path / "unit.tif", np.eye(5, dtype=np.float32)), FULL)
    np.testing.assert_array_equal(image, np.eye(5))
    assert note == "32-bit float, full: 0..1 -> 0..1, 0.0% clipped"


def test_twelve_bits_have_their_own_white():
    levels = np.array([[0, 2048, 4095]], np.uint16)
    image, note = scale_thermal(levels, FULL, 4095)
    np.testing.assert_array_equal(image, np.float32([[0, 2048 / 4095, 1]]))
    assert note == "12-bit, full: 0..4095 -> 0..1, 0.0% clipped"


def test_sixteen_bit_colour_is_reduced_to_grey(tmp_path):
    color = RNG.integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "c.tif", color, photometric="rgb")
    tifffile.imwrite(tmp_path / "g.tif", np.dstack([color[..., 0]] * 3), photometric="rgb")
    expected = np.rint(color.astype(int) @ [299, 587, 114] / 1000)
    np.testing.assert_array_equal(read_raw(tmp_path / "c.tif"), expected)
    np.testing.assert_array_equal(read_raw(tmp_path / "g.tif"), color[..., 0])


def test_unsigned_integers_beyond_31_bits(tmp_path):
    values = np.array([[2**32 - 1, 2**31, 0]], np.uint32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif"), values)
    image, _ = read_thermal(tmp_path / "a.tif", ThermalScaling("range", 0, 2**32 - 1))
    np.testing.assert_allclose(image, [[1, 0.5, 0]], atol=1e-6)


@pytest.mark.filterwarnings("ignore::rpfnet_jax.files.InputWarning")
def test_levels_are_those_of_the_file_or_of_its_scaling(tmp_path):
    path = save(tmp_path / "a.png", COUNTS)
    np.testing.assert_array_equal(read_levels(path), read_image(path))
    spread = read_levels(path, ThermalScaling())
    np.testing.assert_array_equal(spread, np.rint(255 * read_thermal(path)[0].astype(np.float64)))
    assert spread.max() == 255
    color = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_levels(save(tmp_path / "c.png", color), ThermalScaling()), color)


def test_colours_are_scaled_together():
    color = RNG.integers(1000, 3000, (5, 6, 3)).astype(np.uint16)
    image = scaled(StoredImage.of(color), ThermalScaling("range", 1000, 3000))
    np.testing.assert_allclose(image.pixels, (color - 1000) / 2000, atol=1e-6)
    low, high = np.percentile(color, [1, 99])
    image = scaled(StoredImage.of(color), ThermalScaling())
    np.testing.assert_allclose(image.pixels, np.clip((color - low) / (high - low), 0, 1), atol=1e-6)


def test_scalings_parse_text():
    span = ThermalScaling("range", 5, 9)
    assert Scalings.of("percentile:1,99", span) == Scalings(ThermalScaling(), span)
    with pytest.raises(ValueError, match="thermal scaling 'no'"):
        Scalings.of("full", "no")


def test_unreadable_files_are_image_errors(tmp_path):
    whole = save(tmp_path / "a.png", COUNTS).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.tif").write_bytes(b"")
    for name, reason in (("cut.png", "truncated"), ("empty.tif", "empty"), ("absent.png", "No such file")):
        with pytest.raises(ImageError, match=reason) as caught:
            read_thermal(tmp_path / name)
        assert caught.value.path == tmp_path / name


def test_parse():
    assert ThermalScaling.parse("percentile:1,99") == ThermalScaling()
    assert ThermalScaling.parse(" Range: 7000, 9500 ") == ThermalScaling("range", 7000, 9500)
    assert ThermalScaling.parse("range:-20.5,1e3") == ThermalScaling("range", -20.5, 1000)
    assert ThermalScaling.parse("FULL") == ThermalScaling("full")
    for scaling in (ThermalScaling(), ThermalScaling("range", -40, 121.5), ThermalScaling("full")):
        assert ThermalScaling.parse(str(scaling)) == scaling


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "use percentile"),
        ("percentile", "use percentile"),
        ("minmax:0,1", "use percentile"),
        ("range:1", "use percentile"),
        ("range:1,2,3", "use percentile"),
        ("range:1..2,3", "could not convert"),
        ("range:9500,7000", "below the high one"),
        ("range:5,5", "below the high one"),
        ("range:0,1e999", "below the high one"),
        ("percentile:-1,99", r"0\.\.100"),
        ("percentile:1,101", r"0\.\.100"),
    ],
)
def test_parse_rejects(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        ThermalScaling.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.usefixtures("as_users_run_it")
def test_unknown_mode_is_rejected():
    with pytest.raises(ValueError, match="unknown scaling 'minmax'"):
        ThermalScaling("minmax")


def test_limits_of_one_image_serve_for_a_clip():
    scaling = ThermalScaling("range", *ThermalScaling().limits(COUNTS))
    np.testing.assert_array_equal(scale_thermal(COUNTS, scaling)[0], scale_thermal(COUNTS, ThermalScaling())[0])


def test_empty_image_is_rejected():
    with pytest.raises(ValueError, match="empty"):
        scale_thermal(np.zeros((0, 4), np.uint16), ThermalScaling())
