"""The fields that `flir_plus` adds to the network: no norms, and a base that the head adds to."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.model import ModelConfig, RPFNet, fold, init_variables, variable_shapes
from rpfnet_jax.ops import filters as starlet
from rpfnet_jax.ops.tone import (
    CONTRAST,
    DARK_GAIN,
    DARK_SHARE,
    LEAST_GAIN,
    LEVEL,
    MOST_UNEQUAL,
    SHARE,
    exposed_sum,
    measure_exposure,
)

pytestmark = pytest.mark.usefixtures("cheap_compilation")
CONFIG = ModelConfig(channels=8, stages=2, norm="none")


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).uniform(size=(2, 3, 21, 18, 1)), jnp.float32)


@pytest.fixture(scope="module")
def variables(images):
    return init_variables(RPFNet(CONFIG), jax.random.key(0), *images)


def test_a_network_without_norms_has_neither_statistics_nor_their_parameters(variables):
    assert set(variables) == {"params"}
    assert not [path for path in variable_shapes(CONFIG) if "/norm/" in path]
    # The frequency block has no bias in the paper; as a shift of every frequency it would be a spike at one pixel.
    assert "bias" not in variables["params"]["stage"]["fdfm"]["frequency"]["conv"]


def test_every_norm_mode_computes_the_same(variables, images):
    fused = [RPFNet(CONFIG).apply(variables, *images, norm=mode) for mode in ("image", "running", "adaptive")]
    np.testing.assert_array_equal(fused[0], fused[1])
    np.testing.assert_array_equal(fused[0], fused[2])


def test_a_pair_does_not_depend_on_the_others_of_its_batch(variables, images):
    together = RPFNet(CONFIG).apply(variables, *images)
    alone = RPFNet(CONFIG).apply(variables, *images[:, 1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-6)


def test_folding_leaves_its_convolutions_as_they_are(variables, images):
    config, folded = fold(CONFIG, variables)
    np.testing.assert_allclose(
        RPFNet(config).apply(folded, *images), RPFNet(CONFIG).apply(variables, *images), atol=1e-6
    )


def test_signals_neither_die_nor_explode_at_the_start(variables, images):
    _, stages = RPFNet(CONFIG).apply(variables, *images, features=True)
    sizes = [float(jnp.sqrt(jnp.mean(jnp.square(part)))) for stage in stages for part in stage]
    assert min(sizes) > 0.05
    assert max(sizes) < 50


def test_a_silent_head_gives_the_base(images):
    model = RPFNet(ModelConfig(channels=8, stages=1, base="exposed_sum"))
    variables = init_variables(model, jax.random.key(0), *images)
    out = variables["params"]["head"]["out"]
    variables["params"]["head"]["out"] = jax.tree.map(jnp.zeros_like, out)
    bounded = jnp.clip(exposed_sum(*images), 0.5 / 255, 1 - 0.5 / 255)
    np.testing.assert_allclose(model.apply(variables, *images), bounded, atol=1e-6)


def test_the_exposed_sum_leaves_the_dark_alone_and_keeps_its_level():
    rng = np.random.default_rng(0)
    dark, bright = (jnp.asarray(rng.uniform(*ends, (2, 1, 20, 20, 1)), jnp.float32) for ends in ((0, 0.2), (0.5, 0.9)))
    black = jnp.zeros_like(dark[0])
    np.testing.assert_array_equal(exposed_sum(black, black), black)
    expected = (1 - DARK_SHARE) * DARK_GAIN * dark.sum(0) + DARK_SHARE * dark.max(0)
    np.testing.assert_allclose(exposed_sum(*dark), expected, atol=1e-6)
    assert float(_exposed(*bright).mean()) == pytest.approx(LEVEL, abs=0.02)


def test_the_exposed_sum_has_its_contrast_where_the_gain_allows_it(images):
    ir, vis = (0.55 + 0.6 * (image - 0.5) for image in images)
    np.testing.assert_allclose(jnp.std(_exposed(ir, vis), (1, 2, 3)), CONTRAST, rtol=0.05)
    flat = [0.55 + 0.1 * (image - 0.55) for image in (ir, vis)]
    assert float(jnp.max(jnp.std(_exposed(*flat), (1, 2, 3)))) < CONTRAST / 2


def test_the_flatter_source_weighs_more_by_day(images):
    vis, ir = 0.3 + 0.4 * images[0], 0.55 + 0.1 * (images[1] - 0.5)
    exposed = _exposed(ir, vis).ravel()
    weights = [jnp.cov(exposed, source.ravel())[0, 1] / jnp.var(source) for source in (ir, vis)]
    assert weights[0] > 1.2 * weights[1]
    dark = [0.3 * image for image in (ir, vis)]
    np.testing.assert_allclose(exposed_sum(*dark), exposed_sum(*dark[::-1]), atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
def test_the_exposed_sum_of_flat_pictures_is_finite_and_flat(level):
    flat, other = jnp.full((1, 16, 20, 1), level), jnp.full((1, 16, 20, 1), 0.6)
    fused = np.asarray(exposed_sum(flat, other))
    assert np.isfinite(fused).all()
    assert np.ptp(fused) < 1e-6
    assert 0 <= fused.min() <= fused.max() <= 1


def test_a_source_without_contrast_is_not_weighed_up_without_end(images):
    ir, vis = jnp.full_like(images[0], 0.5), 0.3 + 0.5 * images[1]
    weight = jnp.std(_exposed(ir, vis), (1, 2, 3)) / jnp.std(vis, (1, 2, 3))
    assert float(weight.min()) > 2 / (1 + MOST_UNEQUAL) * LEAST_GAIN


def test_exposure_of_numpy_and_jax_arrays_is_the_same(images):
    ours, theirs = measure_exposure(*(np.asarray(image) for image in images)), measure_exposure(*images)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    joint = np.cov(np.asarray(images)[:, 0].reshape(2, -1), bias=True)
    np.testing.assert_allclose([ours.ir_variance[0], ours.vis_variance[0]], np.diag(joint), atol=1e-6)
    np.testing.assert_allclose(ours.covariance[0], joint[0, 1], atol=1e-6)


def _exposed(ir, vis):
    """The exposed sum without its share of the maximum, of bright pictures."""
    return (exposed_sum(ir, vis) - SHARE * jnp.maximum(ir, vis)) / (1 - SHARE)


def test_the_exposed_sum_is_continuous_from_dark_to_bright():
    pattern = jnp.asarray(np.random.default_rng(0).random((2, 1, 20, 20, 1)), jnp.float32)
    levels = [exposed_sum(*(scale * pattern)) for scale in np.linspace(0.2, 1, 401, dtype=np.float32)]
    steps = [float(jnp.abs(b - a).max()) for a, b in itertools.pairwise(levels)]
    assert max(steps) < 0.01


def test_the_head_weighs_details_of_both_sources(images):
    config = ModelConfig(channels=4, stages=1, norm="none", base="exposed_sum", details=2)
    variables = init_variables(RPFNet(config), jax.random.key(0), *images)
    out = variables["params"]["head"]["out"]
    assert out["kernel"].shape == (3, 3, 2, 5)
    # Only a bias is not zero: that of the map which weighs the infrared picture's second scale.
    variables["params"]["head"]["out"] = {"kernel": jnp.zeros((3, 3, 2, 5)), "bias": jnp.asarray([0, 0, 0.4, 0, 0.0])}
    flat = [jnp.full_like(images[0], 0.5), jnp.zeros_like(images[0])]
    np.testing.assert_allclose(RPFNet(config).apply(variables, *flat), exposed_sum(*flat), atol=1e-6)
    ir, vis = images
    base = jnp.clip(exposed_sum(ir, vis), 0.5 / 255, 1 - 0.5 / 255)
    expected = jax.nn.sigmoid(jnp.log(base / (1 - base)) + 4 * starlet.details(ir, 2)[..., 1:])
    np.testing.assert_allclose(RPFNet(config).apply(variables, ir, vis), expected, atol=1e-5)


def test_a_tile_is_exposed_like_its_picture():
    ir, vis = jnp.asarray(np.random.default_rng(0).uniform(0.3, 1, (2, 1, 32, 32, 1)), jnp.float32)
    ir = ir.at[:, :16].set(0.3)
    whole = exposed_sum(ir, vis)
    exposure = measure_exposure(ir, vis)
    np.testing.assert_allclose(exposed_sum(ir[:, 16:], vis[:, 16:], exposure), whole[:, 16:], atol=1e-6)
    assert not np.allclose(exposed_sum(ir[:, 16:], vis[:, 16:]), whole[:, 16:], atol=1e-2)


def test_black_and_white_have_finite_gradients():
    model = RPFNet(ModelConfig(channels=4, stages=1, norm="none", base="exposed_sum"))
    image = jnp.concatenate([jnp.zeros((1, 8, 16, 1)), jnp.ones((1, 8, 16, 1))], axis=1)
    variables = init_variables(model, jax.random.key(0), image, image)
    gradient = jax.grad(lambda params, image: model.apply({"params": params}, image, image).sum(), (0, 1))
    for leaf in jax.tree.leaves(gradient(variables["params"], image)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("field", [{"norm": "layer"}, {"base": "mean"}, {"details": 1.0}, {"details": 1}])
@pytest.mark.usefixtures("as_users_run_it")
def test_impossible_values_are_refused(field):
    with pytest.raises(ValueError, match=f"model.{next(iter(field))} must be"):
        ModelConfig(**field)
