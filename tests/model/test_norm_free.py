"""Networks without norms, and heads that add to a base, as in the recipe `flir_plus`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.model import ModelConfig, RPFNet, fold, init_variables, variable_shapes
from rpfnet_jax.ops.filters import starlet
from rpfnet_jax.ops.tone import exposed_sum
from tests.networks import network_variables

CONFIG = ModelConfig(channels=8, stages=2, norm="none")
apply = jax.jit(RPFNet(CONFIG).apply, static_argnames=("norm", "features"))


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
    fused = [apply(variables, *images, norm=mode) for mode in ("image", "running", "adaptive")]
    np.testing.assert_array_equal(fused[0], fused[1])
    np.testing.assert_array_equal(fused[0], fused[2])


def test_a_pair_does_not_depend_on_the_others_of_its_batch(variables, images):
    together, alone = apply(variables, *images), apply(variables, *images[:, 1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-6)


def test_folding_leaves_its_convolutions_as_they_are(variables, images):
    config, folded = fold(CONFIG, variables)
    np.testing.assert_allclose(jax.jit(RPFNet(config).apply)(folded, *images), apply(variables, *images), atol=1e-6)


def test_signals_neither_die_nor_explode_at_the_start(variables, images):
    _, stages = apply(variables, *images, features=True)
    sizes = [float(jnp.sqrt(jnp.mean(jnp.square(part)))) for stage in stages for part in stage]
    assert min(sizes) > 0.05
    assert max(sizes) < 50


def test_a_silent_head_gives_the_base(images):
    model = RPFNet(ModelConfig(channels=8, stages=1, base="exposed_sum"))
    variables = network_variables(model.config)
    out = variables["params"]["head"]["out"]
    variables["params"]["head"]["out"] = jax.tree.map(jnp.zeros_like, out)
    bounded = jnp.clip(exposed_sum(*images), 0.5 / 255, 1 - 0.5 / 255)
    np.testing.assert_allclose(jax.jit(model.apply)(variables, *images), bounded, atol=1e-6)


def test_the_head_weighs_details_of_both_sources(images):
    config = ModelConfig(channels=4, stages=1, norm="none", base="exposed_sum", details=2)
    variables = network_variables(config)
    out = variables["params"]["head"]["out"]
    assert out["kernel"].shape == (3, 3, 2, 5)
    # Only a bias is not zero: that of the map that weighs the infrared image's second scale.
    variables["params"]["head"]["out"] = {"kernel": jnp.zeros((3, 3, 2, 5)), "bias": jnp.asarray([0, 0, 0.4, 0, 0.0])}
    flat = [jnp.full_like(images[0], 0.5), jnp.zeros_like(images[0])]
    apply = jax.jit(RPFNet(config).apply)
    np.testing.assert_allclose(apply(variables, *flat), exposed_sum(*flat), atol=1e-6)
    ir, vis = images
    base = jnp.clip(exposed_sum(ir, vis), 0.5 / 255, 1 - 0.5 / 255)
    expected = jax.nn.sigmoid(jnp.log(base / (1 - base)) + 4 * starlet(ir, 2)[..., 1:])
    np.testing.assert_allclose(apply(variables, ir, vis), expected, atol=1e-5)


def test_black_and_white_have_finite_gradients():
    model = RPFNet(ModelConfig(channels=4, stages=1, norm="none", base="exposed_sum"))
    image = jnp.concatenate([jnp.zeros((1, 8, 16, 1)), jnp.ones((1, 8, 16, 1))], axis=1)
    variables = network_variables(model.config)
    gradient = jax.jit(jax.grad(lambda params, image: model.apply({"params": params}, image, image).sum(), (0, 1)))
    chex.assert_tree_all_finite(gradient(variables["params"], image))
