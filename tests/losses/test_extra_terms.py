"""The losses that the paper does not have: what they are zero for, and SCD against the metric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.losses import (
    LossConfig,
    contrastive_loss,
    difference_correlation_loss,
    intensity_loss,
    objective,
    structure_loss,
    texture_loss,
)
from rpfnet_jax.metrics import measure

compiled = jax.jit(objective, static_argnums=4)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).uniform(size=(3, 2, 24, 20, 1)), jnp.float32)


def test_intensity_is_zero_exactly_for_the_maximum(images):
    _, ir, vis = images
    assert float(intensity_loss(jnp.maximum(ir, vis), ir, vis)) == 0
    assert float(intensity_loss(jnp.maximum(ir, vis) - 0.1, ir, vis)) == pytest.approx(0.1, abs=1e-6)


def test_texture_wants_the_steeper_slope_with_its_sign(images):
    ir = images[1]
    # All slopes of the second source point the other way and are half as steep.
    vis = 0.5 - ir / 2
    inside = (slice(None), slice(2, -2), slice(2, -2))
    assert float(texture_loss(ir, ir, vis)) < float(texture_loss(vis, ir, vis))
    assert float(texture_loss(ir[inside], ir[inside], 0 * ir[inside])) == 0
    assert float(texture_loss(1 - ir, ir, 0 * ir)) > float(texture_loss(0 * ir + 0.5, ir, 0 * ir))


def test_difference_correlation_is_two_minus_the_metric():
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 256, (3, 48, 44)).astype(np.uint8)
    fused, ir, vis = (jnp.asarray(level, jnp.float32)[None, ..., None] / 255 for level in levels)
    assert float(difference_correlation_loss(fused, ir, vis)) == pytest.approx(2 - measure(*levels)["scd"], abs=1e-4)


def test_difference_correlation_is_zero_for_the_sum_and_finite_for_flat_patches(images):
    _, ir, vis = images
    assert float(difference_correlation_loss(ir + vis, ir, vis)) == pytest.approx(0, abs=1e-3)
    flat = jnp.full_like(ir, 0.5)
    value, gradient = jax.jit(jax.value_and_grad(difference_correlation_loss))(flat, flat, flat)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_weights_decide_which_terms_there_are(images):
    config = LossConfig(
        auxiliary=False, contrastive=0.0, lambda2=2.0, intensity=3.0, texture=0.0, difference_correlation=0.5
    )
    total, terms = compiled(images[0], None, *images[1:], config)
    assert set(terms) == {"total", "structure", "intensity", "difference_correlation"}
    expected = 2 * terms["structure"] + 3 * terms["intensity"] + 0.5 * terms["difference_correlation"]
    assert float(total) == pytest.approx(float(expected), rel=1e-6)


def test_the_paper_has_none_of_them(images):
    total, terms = compiled(images[0], None, *images[1:], LossConfig(auxiliary=False))
    assert set(terms) == {"total", "contrastive", "structure"}
    parts = contrastive_loss(*images), structure_loss(*images)
    assert float(total) == pytest.approx(float(parts[0] + 5 * parts[1]), rel=1e-6)
