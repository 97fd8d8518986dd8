"""The losses: parity with the released code, laws, oracles, and finite gradients where denominators vanish."""

import dataclasses
import functools
import sys

import chex
import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.losses import (
    LossConfig,
    adaptive_weight,
    contrastive_distances,
    contrastive_loss,
    gradient_loss,
    intensity_loss,
    objective,
    region_loss,
    saliency_loss,
    ssim_map,
    structure_loss,
    texture_loss,
    texture_mask,
    thermal_mask,
)
from rpfnet_jax.losses.contrastive import spectral_l1

PAPER, RELEASED = LossConfig.preset("paper"), LossConfig.preset("released")
READINGS = pytest.mark.parametrize("config", [PAPER, RELEASED], ids=["paper", "released"])


@functools.partial(jax.jit, static_argnames="config")
def evaluate(fused, aux_map, ir, vis, config):
    """(total, terms) of the objective and the gradients of the total; one program for each configuration and shape."""
    losses = functools.partial(objective, config=config)
    return jax.value_and_grad(losses, argnums=(0, 1), has_aux=True)(fused, aux_map, ir, vis)


@pytest.fixture
def images(released):
    """fused, M', IR, VIS of the reference batch, (2, 64, 64, 1)."""
    return tuple(jnp.asarray(released[f"loss_{name}"]) for name in ("fused", "aux_map", "ir", "vis"))


def test_released_reading_equals_the_released_code(released, images):
    _, aux_map, ir, vis = images
    np.testing.assert_array_equal(adaptive_weight(ir, vis, RELEASED), released["loss_mask"])
    (total, terms), _ = evaluate(*images, RELEASED)
    np.testing.assert_allclose(terms["contrastive"], released["loss_contrastive"], rtol=1e-5)
    np.testing.assert_allclose(terms["structure"], released["loss_structure"], rtol=1e-5)
    np.testing.assert_allclose(saliency_loss(aux_map, ir, vis, RELEASED), released["loss_saliency"], rtol=1e-5)
    np.testing.assert_allclose(total, released["loss_total"], rtol=1e-5)


@READINGS
def test_total_is_the_weighted_sum_of_its_terms(images, config):
    (total, terms), _ = evaluate(*images, config)
    fusion = terms["contrastive"] + config.lambda2 * terms["structure"]
    np.testing.assert_allclose(total, terms["saliency_gradient"] + terms["saliency_region"] + fusion, rtol=1e-6)
    np.testing.assert_array_equal(total, terms["total"])


@READINGS
def test_only_the_paper_reading_treats_each_image_by_itself(images, config):
    (together, _), _ = evaluate(*images, config)
    alone = [evaluate(*(x[i : i + 1] for x in images), config)[0][0] for i in range(2)]
    difference = abs(float(together - sum(alone) / 2))
    assert difference < 1e-5 * float(together) if config == PAPER else difference > 1e-3


def test_masks_by_hand():
    ir = jnp.zeros((1, 16, 16, 1)).at[0, 4:6, 4:6].set(1.0)
    np.testing.assert_array_equal(thermal_mask(ir), ir)
    edges = texture_mask(ir)[0, :, :, 0]
    assert set(map(tuple, np.argwhere(edges))) == {(r, c) for r in range(3, 7) for c in range(3, 7)}


def test_weight_holds_the_hot_pixels_with_plus_signs_and_not_as_printed(flir_patches):
    ir, vis = map(jnp.asarray, flir_patches)
    hot = thermal_mask(ir) > 0
    plus = adaptive_weight(ir, vis, PAPER)[hot].mean()
    printed = adaptive_weight(ir, vis, LossConfig.preset("paper", weight_signs="printed"))[hot].mean()
    assert plus > 0.7
    assert printed < 0.3


@pytest.mark.parametrize("width", [20, 21])
def test_half_spectrum_distance_equals_the_full_one(width):
    a, b = jax.random.normal(jax.random.key(0), (2, 3, 17, width, 1))
    full = np.abs(np.fft.fft2(np.asarray(a, np.float64) - np.asarray(b), axes=(1, 2))).mean((1, 2, 3))
    ours = spectral_l1(jnp.fft.rfft2(a - b, axes=(1, 2)), width)
    np.testing.assert_allclose(ours, full, rtol=1e-5)


@pytest.mark.parametrize("negatives", ["released", "printed"])
def test_contrastive_pairs_are_those_of_equation_12(images, negatives):
    fused, _, ir, vis = images
    config = LossConfig.preset("paper", negatives=negatives)
    w = np.asarray(adaptive_weight(ir, vis, config))
    f, i, v = (np.asarray(x, np.float64) for x in (fused, ir, vis))
    c = 1 - w
    pairs = {
        "released": [(f * w, i * c), (f * w, v * w), (f * c, i * c), (f * c, v * w)],
        "printed": [(f * w, i * c), (f * w, v * w), (f * c, i * w), (f * c, v * c)],
    }[negatives]

    def distance(a, b):
        return np.abs(np.fft.fft2(a - b, axes=(1, 2))).mean((1, 2, 3))

    positive, negative = contrastive_distances(fused, ir, vis, config)
    np.testing.assert_allclose(positive, distance(f * w, i * w) + distance(f * c, v * c), rtol=1e-5)
    np.testing.assert_allclose(negative, sum(distance(a, b) for a, b in pairs), rtol=1e-5)


@READINGS
def test_contrastive_loss_is_zero_for_the_wanted_composition(images, config):
    _, _, ir, vis = images
    w = adaptive_weight(ir, vis, config)
    wanted = ir * w + vis * (1 - w)
    assert float(contrastive_loss(wanted, ir, vis, config)) < 1e-6
    assert float(contrastive_loss(ir * (1 - w) + vis * w, ir, vis, config)) > 0.3


def test_ssim_agrees_with_dm_pix(images):
    fused, _, ir, _ = images
    ours = jnp.mean(ssim_map(fused, ir, PAPER), axis=(1, 2, 3))
    with jax.numpy_dtype_promotion("standard"):
        theirs = dm_pix.ssim(fused, ir, filter_size=11, filter_sigma=1.5)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@READINGS
def test_structure_loss_is_zero_for_identical_images_and_symmetric_in_the_sources(images, config):
    fused, _, ir, vis = images
    assert float(structure_loss(ir, ir, ir, config)) < 1e-6
    np.testing.assert_allclose(
        structure_loss(fused, ir, vis, config), structure_loss(fused, vis, ir, config), rtol=1e-6
    )


@READINGS
def test_saliency_rewards_a_map_that_answers_to_hot_and_textured_pixels(images, config):
    _, _, ir, vis = images
    empty, full = jnp.zeros_like(ir), jnp.ones_like(ir)
    assert float(region_loss(full, ir, config)) < float(region_loss(empty, ir, config))
    assert float(gradient_loss(ir, ir, vis, config)) < float(gradient_loss(empty, ir, vis, config))


SOURCES = {
    "black": lambda x: (0 * x, 0 * x),
    "flat": lambda x: (0 * x + 0.5, 0 * x + 0.5),
    "saturated": lambda x: (0 * x + 1, 0 * x + 1),
    "identical": lambda x: (x, x),
    "constant difference": lambda x: (0 * x + 0.7, 0 * x + 0.2),
    "one hot pixel": lambda x: ((0 * x).at[:, 5, 5].set(1.0), 0 * x),
}


@READINGS
@pytest.mark.parametrize("size", [(16, 16), (17, 31)])
@pytest.mark.parametrize("sources", SOURCES.values(), ids=SOURCES)
def test_values_and_gradients_are_finite_where_denominators_vanish(config, sources, size):
    texture = jax.random.uniform(jax.random.key(3), (2, *size, 1))
    ir, vis = sources(texture)
    for fused in (ir, vis, texture, jnp.zeros_like(ir), jnp.ones_like(ir)):
        chex.assert_tree_all_finite(evaluate(fused, fused, ir, vis, config))


def test_masks_carry_no_gradient(images):
    _, _, ir, vis = images
    total = jax.grad(lambda x: adaptive_weight(x, vis).sum() + thermal_mask(x).sum() + texture_mask(x).sum())(ir)
    assert float(jnp.abs(total).max()) == 0


def _pixels(a, b):
    return np.abs(a - b).mean((1, 2, 3))


def _spectra(a, b):
    return np.abs(np.fft.fft2(a - b, axes=(1, 2))).mean((1, 2, 3))


@pytest.mark.parametrize(("domain", "distance"), [("frequency", _spectra), ("spatial", _pixels)])
def test_distances_of_the_ablations_are_those_of_the_same_pairs(images, domain, distance):
    fused, _, ir, vis = images
    f, i, v = (np.asarray(x, np.float64) for x in (fused, ir, vis))
    w = np.asarray(adaptive_weight(ir, vis))
    c = 1 - w
    positive, negative = contrastive_distances(fused, ir, vis, LossConfig.preset("paper", domain=domain))
    np.testing.assert_allclose(positive, distance(f * w, i * w) + distance(f * c, v * c), rtol=1e-5)
    pairs = [(f * w, i * c), (f * w, v * w), (f * c, i * c), (f * c, v * w)]
    np.testing.assert_allclose(negative, sum(distance(a, b) for a, b in pairs), rtol=1e-5)

    direct = LossConfig.preset("paper", domain=domain, negatives="none", adaptive_weights=False)
    positive, negative = contrastive_distances(fused, ir, vis, direct)
    np.testing.assert_allclose(positive, distance(f, i) + distance(f, v), rtol=1e-5)
    assert float(jnp.abs(negative).max()) == 0


@READINGS
def test_without_negatives_the_loss_is_the_distance_of_orthonormal_spectra(images, config):
    fused, _, ir, vis = images
    alone = dataclasses.replace(config, negatives="none")
    w = np.asarray(adaptive_weight(ir, vis, config))
    f, i, v = (np.asarray(x, np.float64) for x in (fused, ir, vis))
    pairs = [(f * w, i * w), (f * (1 - w), v * (1 - w))]
    expected = sum(np.abs(np.fft.fft2(a - b, axes=(1, 2), norm="ortho")).mean() for a, b in pairs)
    np.testing.assert_allclose(contrastive_loss(fused, ir, vis, alone), expected, rtol=1e-5)
    pixelwise = dataclasses.replace(alone, domain="spatial")
    expected = sum(np.abs(a - b).mean() for a, b in pairs)
    np.testing.assert_allclose(contrastive_loss(fused, ir, vis, pixelwise), expected, rtol=1e-5)


def test_without_weights_the_ratio_would_be_constant(images):
    """Why `adaptive_weights` False refuses negatives: by Eq. 10 and 12 with w = w~ = 1."""
    fused, _, ir, vis = (np.asarray(x, np.float64) for x in images)
    positive = _spectra(fused, ir) + _spectra(fused, vis)
    negative = 2 * _spectra(fused, ir) + 2 * _spectra(fused, vis)
    np.testing.assert_allclose(positive / negative, 0.5)
    with pytest.raises(ValueError, match=r"loss\.negatives must be 'none'"):
        LossConfig.preset("paper", adaptive_weights=False)


ABLATIONS = {
    "no structure": {"lambda2": 0.0},
    "no contrast": {"negatives": "none"},
    "spatial": {"domain": "spatial"},
    "no weights": {"negatives": "none", "adaptive_weights": False},
    "no weights, spatial": {"negatives": "none", "adaptive_weights": False, "domain": "spatial"},
}


@pytest.mark.parametrize("fields", ABLATIONS.values(), ids=ABLATIONS)
@pytest.mark.parametrize("reading", ["paper", "released"])
def test_ablated_objectives_differ_and_stay_finite(images, reading, fields):
    config = LossConfig.preset(reading, **fields)
    (whole, _), _ = evaluate(*images, LossConfig.preset(reading))
    (value, _), grads = evaluate(*images, config)
    assert abs(float(value - whole)) > 1e-4
    assert all(float(jnp.abs(grad).max()) > 0 for grad in grads)
    zeros, ones = jnp.zeros_like(images[0]), jnp.ones_like(images[0])
    for fused, ir, vis in ((zeros, zeros, zeros), (ones, ones, zeros), (images[2], images[2], images[2])):
        chex.assert_tree_all_finite(evaluate(fused, fused, ir, vis, config))


def test_a_term_of_weight_zero_is_not_computed(images, monkeypatch):
    module = sys.modules["rpfnet_jax.losses.objective"]  # The package exports a function of the same name.
    monkeypatch.setattr(module, "structure_loss", lambda *arguments: pytest.fail("computed"))
    total, terms = jax.jit(objective, static_argnums=4)(*images, LossConfig.preset("paper", lambda2=0.0))
    assert set(terms) == {"total", "contrastive", "saliency_gradient", "saliency_region"}
    assert float(total) == pytest.approx(float(sum(value for name, value in terms.items() if name != "total")))


def test_without_an_auxiliary_map_there_is_no_saliency_loss(images):
    fused, aux_map, ir, vis = images
    config = LossConfig.preset("paper", auxiliary=False)
    total, terms = jax.jit(objective, static_argnums=4)(fused, None, ir, vis, config)
    assert set(terms) == {"total", "contrastive", "structure"}
    np.testing.assert_allclose(total, terms["contrastive"] + 5 * terms["structure"], rtol=1e-6)
    with pytest.raises(ValueError, match="M' is given"):
        objective(fused, aux_map, ir, vis, config)
    with pytest.raises(ValueError, match="M' is not given"):
        objective(fused, None, ir, vis)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 16, 16, 3), (2, 16, 16, 1)])
@pytest.mark.parametrize("loss", [structure_loss, contrastive_loss, gradient_loss, intensity_loss, texture_loss])
def test_shapes_that_might_broadcast_are_refused(loss, shape):
    image = jnp.zeros((1, 16, 16, 1))
    with pytest.raises(AssertionError, match="shape"):
        loss(image, image, jnp.zeros(shape))
