import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from rpfnet_jax.data.color import luminance, restore_color, restore_gray, rgb_to_ycbcr, to_uint8, ycbcr_to_rgb

SHAPES = hnp.array_shapes(max_dims=3, max_side=4).map(lambda shape: (*shape, 3))
UNIT = st.floats(0, 1)


@given(hnp.arrays(np.float64, SHAPES, elements=UNIT))
def test_round_trip(rgb):
    np.testing.assert_allclose(ycbcr_to_rgb(rgb_to_ycbcr(rgb)), rgb, atol=1e-14)
    np.testing.assert_allclose(rgb_to_ycbcr(ycbcr_to_rgb(rgb)), rgb, atol=1e-14)


@given(hnp.arrays(np.float32, (3, 3), elements=st.floats(0, 1, width=32)))
def test_round_trip_keeps_float32(rgb):
    back = ycbcr_to_rgb(rgb_to_ycbcr(rgb))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, rgb, atol=1e-6)


@given(UNIT)
def test_grey_stays_grey(level):
    gray = np.full((2, 3), level)
    np.testing.assert_allclose(rgb_to_ycbcr(gray), [[level, 0.5, 0.5]] * 2, atol=1e-15)
    np.testing.assert_allclose(luminance(gray), level, atol=1e-15)


@given(hnp.arrays(np.float64, (4, 3), elements=UNIT))
def test_ranges_and_luminance(rgb):
    ycc = rgb_to_ycbcr(rgb)
    assert (ycc >= -1e-12).all()
    assert (ycc <= 1 + 1e-12).all()
    np.testing.assert_array_equal(ycc[..., 0], luminance(rgb))


def test_known_colours():
    rgb = np.eye(3)
    np.testing.assert_allclose(luminance(rgb), [0.299, 0.587, 0.114])
    np.testing.assert_allclose(rgb_to_ycbcr(rgb)[0], [0.299, 0.5 - 0.299 / 1.772, 1.0])
    np.testing.assert_allclose(rgb_to_ycbcr(rgb)[2], [0.114, 1.0, 0.5 - 0.114 / 1.402])


def test_agrees_with_pillow_within_one_level():
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    theirs = np.array(Image.fromarray(rgb).convert("YCbCr")).astype(int)
    ours = rgb_to_ycbcr(rgb / 255.0) * 255
    ours[..., 1:] += 0.5  # JPEG centres 8-bit chroma at 128, not 127.5.
    assert np.abs(np.rint(ours) - theirs).max() <= 1


def test_full_range_puts_fused_luminance_in_place():
    rgb = np.random.default_rng(1).uniform(0.3, 0.7, (5, 6, 3))
    np.testing.assert_allclose(restore_color(luminance(rgb), rgb, "full"), rgb, atol=1e-14)
    brighter = restore_color(luminance(rgb) + 0.1, rgb)
    np.testing.assert_allclose(brighter, rgb + 0.1, atol=1e-14)
    assert restore_color(np.full((5, 6), 1.0), rgb).max() == 1.0


def test_studio_formula_on_hand_computed_values():
    # Neutral chroma is 127.5 here and 128 in the formula, hence the offsets of half a level.
    gray = np.full((1, 3), 0.5)
    luma = 1.164 * (255 * 0.4 - 16)
    assert luma == pytest.approx(100.104)
    expected = [luma - 0.798, luma + 0.196 + 0.4065, luma - 1.0085]
    np.testing.assert_allclose(restore_color(np.array([0.4]), gray, "studio") * 255, [expected])
    # Pure red: Y = 76.245, Cb = 84.472, Cr = 255.
    red = restore_color(np.array([0.299]), np.array([[1.0, 0.0, 0.0]]), "studio") * 255
    cb = 255 * (0.5 - 0.299 / 1.772) - 128
    green = 1.164 * (76.245 - 16) - 0.392 * cb - 0.813 * 127
    assert green == pytest.approx(-16.0630, abs=1e-3)
    np.testing.assert_allclose(red, [[255.0, 0.0, max(0.0, 1.164 * 60.245 + 2.017 * cb)]])


@given(hnp.arrays(np.float64, (3,), elements=UNIT), hnp.arrays(np.float64, (3, 3), elements=UNIT))
def test_restored_colours_are_in_range(fused, rgb):
    for reading in ("full", "studio"):
        restored = restore_color(fused, rgb, reading)
        assert restored.shape == (3, 3)
        assert restored.min() >= 0
        assert restored.max() <= 1


def test_restore_gray():
    y = np.array([-0.1, 0.0, 16 / 255, 0.5, 1.0])
    np.testing.assert_allclose(restore_gray(y), [0, 0, 16 / 255, 0.5, 1])
    stretched = [0, 0, 0, 1.164 * (127.5 - 16) / 255, 1]
    np.testing.assert_allclose(restore_gray(y, "studio"), stretched, atol=1e-15)


def test_to_uint8():
    halves = np.array([-1.0, 0.0, 0.5 / 255, 1.5 / 255, 2.5 / 255, 0.5, 1.0, 7.0])
    np.testing.assert_array_equal(to_uint8(halves), [0, 0, 0, 2, 2, 128, 255, 255])
    levels = np.arange(256, dtype=np.uint8)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(to_uint8((levels / 255).astype(dtype)), levels)
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(np.array([0.5, np.nan]))


def test_wrong_arguments():
    # Under type checking the annotations refuse some of these first, hence TypeError.
    with pytest.raises(ValueError, match="leading axes"):
        restore_color(np.zeros((4, 5)), np.zeros((5, 4, 3)))
    for call in (
        lambda: luminance(np.zeros((3, 4))),
        lambda: rgb_to_ycbcr(np.zeros((3, 1))),
        lambda: ycbcr_to_rgb(np.zeros((3, 4))),
        lambda: restore_color(np.zeros(2), np.zeros((2, 3)), "video"),
        lambda: restore_gray(np.zeros(2), "video"),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
