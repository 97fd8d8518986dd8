"""Conversion to 8-bit grey."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from rpfnet_jax import metrics


def test_grey_stays_as_it_is():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert metrics.to_gray8(levels) is levels
    np.testing.assert_array_equal(metrics.to_gray8(levels[..., None]), levels)
    np.testing.assert_array_equal(metrics.to_gray8(np.stack([levels] * 3, axis=-1)), levels)


def test_primaries_as_in_matlab():
    # rgb2gray(uint8(cat(3, 255, 0, 0))) is 76, green 150, blue 29.
    primaries = 255 * np.eye(3, dtype=np.uint8)[None]
    np.testing.assert_array_equal(metrics.to_gray8(primaries), [[76, 150, 29]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eight_bit_levels_survive_the_float_scale(dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(metrics.to_gray8((levels / 255).astype(dtype)), levels)


def test_halves_round_to_even():
    np.testing.assert_array_equal(metrics.to_gray8(np.array([[0.1, 0.3, 0.5]])), [[26, 76, 128]])


def test_float_colour_is_quantised_before_it_is_converted():
    rgb = np.random.default_rng(0).random((9, 11, 3))
    eight_bit = np.rint(255 * rgb).astype(np.uint8)
    np.testing.assert_array_equal(metrics.to_gray8(rgb), metrics.to_gray8(eight_bit))


def test_rounding_beyond_the_range_is_forgiven_but_no_other_scale():
    np.testing.assert_array_equal(metrics.to_gray8(np.array([[-1e-7, 1 + 1e-7]])), [[0, 255]])
    for value in (-0.01, 1.01, 255.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="in \\[0, 1\\]"):
            metrics.to_gray8(np.array([[0.5, value]]))


def test_other_shapes_and_types_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 5, 4\)"):
        metrics.to_gray8(np.zeros((4, 5, 4), np.uint8))
    # With run time type checks the annotation speaks first.
    with pytest.raises((ValueError, TypeCheckError)):
        metrics.to_gray8(np.zeros((4, 5), np.uint16))
