"""The classical methods as fusers of pictures."""

import numpy as np
import pytest

from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.color import luminance, restore_color, to_uint8
from rpfnet_jax.inference.fuser import BaselineFuser

RNG = np.random.default_rng(0)
IR = RNG.integers(0, 256, (23, 31), dtype=np.uint8)
RGB = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)
UNIT = np.float32(255)


@pytest.mark.parametrize("method", list(BASELINES))
def test_grey_is_what_the_function_gives(method):
    fused = BaselineFuser(method).fuse(IR, RGB[..., 1], dtype="float32")
    np.testing.assert_array_equal(fused, BASELINES[method](IR / UNIT, RGB[..., 1] / UNIT))


@pytest.mark.parametrize("method", list(BASELINES))
def test_colour_keeps_the_chroma_of_the_visible_picture(method):
    fused_y = BASELINES[method](IR / UNIT, luminance(RGB / UNIT))
    np.testing.assert_array_equal(BaselineFuser(method).fuse(IR, RGB), to_uint8(restore_color(fused_y, RGB / UNIT)))


def test_studio_range():
    muted = (RGB // 4 + 96).astype(np.uint8)
    full, studio = (BaselineFuser("average", name).fuse(IR, muted[..., 0]).astype(float) for name in ("full", "studio"))
    np.testing.assert_allclose(studio, np.clip(1.164 * (full - 16), 0, 255), atol=1.2)


def test_many_in_batches_and_small_ones_cost_only_themselves():
    net = BaselineFuser("maximum")
    pairs = [(IR, RGB), (IR[::-1], RGB), (IR[:9], RGB[:9]), (IR[:20], RGB[:20])]
    results = sorted(net.fuse_many(pairs, batch_size=2), key=lambda result: result.index)
    for index in (0, 1, 3):
        np.testing.assert_array_equal(results[index].image, net.fuse(*pairs[index]))
    assert results[2].image is None
    assert "at least 16 pixels" in str(results[2].error)


def test_unknown_methods_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"one of average, maximum, laplacian, guided; got 'magic'"):
        BaselineFuser("magic")
