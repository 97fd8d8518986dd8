"""The exposed sum: black stays black, bright sums keep their level, and nothing jumps in between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.ops import tone
from rpfnet_jax.ops.tone import (
    CONTRAST,
    DARK_GAIN,
    DARK_SHARE,
    LEAST_GAIN,
    LEVEL,
    MOST_UNEQUAL,
    SHARE,
    measure_exposure,
)

exposed_sum = jax.jit(tone.exposed_sum)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).uniform(size=(2, 3, 21, 18, 1)), jnp.float32)


def exposed_alone(ir, vis):
    """The exposed sum of bright images without its share of the maximum."""
    return (exposed_sum(ir, vis) - SHARE * jnp.maximum(ir, vis)) / (1 - SHARE)


def test_the_dark_is_left_alone_and_bright_sums_have_the_level():
    rng = np.random.default_rng(0)
    dark, bright = (jnp.asarray(rng.uniform(*ends, (2, 1, 20, 20, 1)), jnp.float32) for ends in ((0, 0.2), (0.5, 0.9)))
    black = jnp.zeros_like(dark[0])
    np.testing.assert_array_equal(exposed_sum(black, black), black)
    expected = (1 - DARK_SHARE) * DARK_GAIN * dark.sum(0) + DARK_SHARE * dark.max(0)
    np.testing.assert_allclose(exposed_sum(*dark), expected, atol=1e-6)
    assert float(exposed_alone(*bright).mean()) == pytest.approx(LEVEL, abs=0.02)


def test_the_contrast_is_reached_where_the_gain_allows_it(images):
    ir, vis = (0.55 + 0.6 * (image - 0.5) for image in images)
    np.testing.assert_allclose(jnp.std(exposed_alone(ir, vis), (1, 2, 3)), CONTRAST, rtol=0.05)
    flat = [0.55 + 0.1 * (image - 0.55) for image in (ir, vis)]
    assert float(jnp.max(jnp.std(exposed_alone(*flat), (1, 2, 3)))) < CONTRAST / 2


def test_the_flatter_source_weighs_more_by_day(images):
    vis, ir = 0.3 + 0.4 * images[0], 0.55 + 0.1 * (images[1] - 0.5)
    exposed = exposed_alone(ir, vis).ravel()
    weights = [jnp.cov(exposed, source.ravel())[0, 1] / jnp.var(source) for source in (ir, vis)]
    assert weights[0] > 1.2 * weights[1]
    dark = [0.3 * image for image in (ir, vis)]
    np.testing.assert_allclose(exposed_sum(*dark), exposed_sum(*dark[::-1]), atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
def test_flat_images_give_finite_flat_sums(level):
    flat, other = jnp.full((1, 16, 20, 1), level), jnp.full((1, 16, 20, 1), 0.6)
    fused = np.asarray(exposed_sum(flat, other))
    assert np.isfinite(fused).all()
    assert np.ptp(fused) < 1e-6
    assert 0 <= fused.min() <= fused.max() <= 1


def test_the_weight_of_a_source_without_contrast_is_bounded(images):
    ir, vis = jnp.full_like(images[0], 0.5), 0.3 + 0.5 * images[1]
    weight = jnp.std(exposed_alone(ir, vis), (1, 2, 3)) / jnp.std(vis, (1, 2, 3))
    assert float(weight.min()) > 2 / (1 + MOST_UNEQUAL) * LEAST_GAIN


def test_exposure_of_numpy_and_jax_arrays_is_the_same(images):
    ours, theirs = measure_exposure(*(np.asarray(image) for image in images)), measure_exposure(*images)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    joint = np.cov(np.asarray(images)[:, 0].reshape(2, -1), bias=True)
    np.testing.assert_allclose([ours.ir_variance[0], ours.vis_variance[0]], np.diag(joint), atol=1e-6)
    np.testing.assert_allclose(ours.covariance[0], joint[0, 1], atol=1e-6)


def test_the_sum_is_continuous_from_dark_to_bright():
    pattern = jnp.asarray(np.random.default_rng(0).random((2, 1, 20, 20, 1)), jnp.float32)
    levels = np.stack([exposed_sum(*(scale * pattern)) for scale in np.linspace(0.2, 1, 401, dtype=np.float32)])
    assert np.abs(np.diff(levels, axis=0)).max() < 0.01


def test_a_tile_is_exposed_like_its_image():
    ir, vis = jnp.asarray(np.random.default_rng(0).uniform(0.3, 1, (2, 1, 32, 32, 1)), jnp.float32)
    ir = ir.at[:, :16].set(0.3)
    whole = exposed_sum(ir, vis)
    exposure = measure_exposure(ir, vis)
    np.testing.assert_allclose(exposed_sum(ir[:, 16:], vis[:, 16:], exposure), whole[:, 16:], atol=1e-6)
    assert not np.allclose(exposed_sum(ir[:, 16:], vis[:, 16:]), whole[:, 16:], atol=1e-2)


@pytest.mark.usefixtures("as_users_run_it")
def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError, match="shape"):
        tone.exposed_sum(jnp.zeros((1, 16, 16, 1)), jnp.zeros((1, 16, 16, 3)))
