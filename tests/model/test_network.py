"""The whole network: parameter counts, sizes, norm modes, features, runtime options."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpfnet_jax import native
from rpfnet_jax.model import AuxiliaryDecoder, ModelConfig, RPFNet, RuntimeOptions, init_variables
from rpfnet_jax.ops import spectral
from tests.networks import network_variables

SMALL = ModelConfig(channels=8, stages=2)


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes_of(config: ModelConfig) -> dict:
    image = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    return jax.eval_shape(RPFNet(config).init, jax.random.key(0), image, image)


@functools.cache
def compiled(model: RPFNet):
    return jax.jit(model.apply, static_argnames=("norm", "features"))


@pytest.fixture(scope="module")
def network():
    return trained("paper")


def trained(reading: str):
    """A small network of one reading; its running statistics are as after some training."""
    model = RPFNet(ModelConfig.preset(reading, channels=8, stages=2))
    return model, network_variables(model.config)


@pytest.mark.parametrize(
    ("reading", "share_stages", "expected"),
    # Shared stages: the numbers of the authors' file and of the paper's equations. Own weights: two more stages.
    [("released", True, 72_074), ("paper", True, 77_162), ("released", False, 185_884), ("paper", False, 201_148)],
)
def test_parameter_count_is_exact(reading, share_stages, expected):
    assert count(shapes_of(ModelConfig.preset(reading, share_stages=share_stages))["params"]) == expected


def test_auxiliary_decoder_has_the_architecture_of_the_head():
    features = jax.ShapeDtypeStruct((1, 16, 16, 32), jnp.float32)
    auxiliary = jax.eval_shape(AuxiliaryDecoder().init, jax.random.key(0), features)["params"]
    head = shapes_of(ModelConfig())["params"]["head"]
    assert jax.tree.map(lambda x: x.shape, auxiliary["head"]) == jax.tree.map(lambda x: x.shape, head)


def test_running_statistics_are_kept_per_stage():
    stats = shapes_of(ModelConfig(stages=4))["batch_stats"]
    assert {leaf.shape[0] for leaf in jax.tree.leaves(stats["stage"])} == {4}
    assert {
        leaf.shape[0] for name in ("fusion_stem", "residual_stem", "head") for leaf in jax.tree.leaves(stats[name])
    } == {1}
    own = shapes_of(ModelConfig(stages=4, share_stages=False))["batch_stats"]
    assert {f"stage_{index}" for index in range(4)} <= set(own)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(own)} == {1}


def test_initialisation_is_torchs():
    params = init_variables(RPFNet(ModelConfig()), jax.random.key(0), *[jnp.zeros((1, 16, 16, 1))] * 2)["params"]
    conv = params["stage"]["cpm"]["context"]["conv"]
    bound = (3 * 3 * 32) ** -0.5
    for leaf in (conv["kernel"], conv["bias"]):
        assert float(jnp.abs(leaf).max()) <= bound
    # Uniform in +-bound: its standard deviation is bound/sqrt(3); 9,216 draws are within 2 % of it.
    np.testing.assert_allclose(jnp.std(conv["kernel"]), bound / 3**0.5, rtol=0.02)
    frequency = params["stage"]["fdfm"]["frequency"]["conv"]
    assert set(frequency) == {"kernel"}, "the frequency convolution has no bias"


@settings(max_examples=4, deadline=None)
@given(height=st.integers(16, 40), width=st.integers(16, 40))
def test_size_out_is_size_in(network, height, width):
    model, variables = network
    ir = jnp.linspace(0, 1, height * width).reshape(1, height, width, 1)
    fused = compiled(model)(variables, ir, 1 - ir)
    assert fused.shape == ir.shape
    assert bool(jnp.all((fused > 0) & (fused < 1)))


@pytest.mark.parametrize("norm", ["image", "running", "adaptive"])
def test_batch_equals_one_by_one(network, flir_patches, norm):
    model, variables = network
    ir, vis = flir_patches
    apply = compiled(model)
    together = apply(variables, ir, vis, norm=norm)
    alone = jnp.concatenate([apply(variables, ir[i : i + 1], vis[i : i + 1], norm=norm) for i in range(2)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_batch_mode_depends_on_the_neighbours(network, flir_patches):
    model, variables = network
    ir, vis = flir_patches
    apply = compiled(model)
    together = apply(variables, ir, vis, norm="batch")
    alone = apply(variables, ir[:1], vis[:1], norm="batch")
    assert float(jnp.abs(together[:1] - alone).max()) > 1e-4
    np.testing.assert_allclose(alone, apply(variables, ir[:1], vis[:1], norm="image"), atol=1e-6)


def test_adaptive_mode_has_image_and_running_as_its_ends(network, flir_patches):
    model, variables = network
    apply = functools.partial(compiled(model), variables, *flir_patches)
    for adapt, end in ((0.0, "running"), (1.0, "image")):
        np.testing.assert_allclose(apply(norm="adaptive", adapt=adapt), apply(norm=end), atol=2e-5)
    middle = apply(norm="adaptive", adapt=0.5)
    for end in ("running", "image"):
        assert float(jnp.abs(middle - apply(norm=end)).max()) > 1e-4


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_features_are_those_of_every_stage(reading, flir_patches):
    model, variables = trained(reading)
    fused, stages = compiled(model)(variables, *flir_patches, features=True)
    np.testing.assert_array_equal(fused, compiled(model)(variables, *flir_patches))
    assert len(stages) == 2
    for stage in stages:
        assert {maps.shape for maps in stage} == {(2, 48, 56, 8)}
    assert float(jnp.abs(stages[0].fusion - stages[1].fusion).max()) > 1e-3


def test_unused_attention_of_the_released_reading_costs_nothing(flir_patches):
    def optimised(config):
        model = RPFNet(config)
        variables = network_variables(config)
        # XLA counts no operations of native code.
        with native.without_native_code():
            compiled = jax.jit(model.apply).lower(variables, *flir_patches).compile()
        return compiled.cost_analysis()["flops"], variables

    released, variables = optimised(ModelConfig.preset("released", channels=8))
    attended, _ = optimised(ModelConfig.preset("released", channels=8, attention=True))
    assert "channel_attention" in variables["params"]["stage"]["rpm"]
    # Per pixel and stage at least the 7x7 convolution from 4 channels.
    assert attended - released > 3 * 2 * 48 * 56 * 2 * 49 * 4


def test_features_are_not_returned_unless_asked_for(network, flir_patches):
    model, variables = network
    outputs = jax.eval_shape(lambda *pair: model.apply(variables, *pair), *flir_patches)
    assert outputs.shape == (2, 48, 56, 1)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("ir_shape", "vis_shape", "message"),
    [
        ((1, 32, 32, 1), (1, 32, 33, 1), r"same shape.*\(1, 32, 32, 1\).*\(1, 32, 33, 1\)"),
        ((1, 15, 32, 1), (1, 15, 32, 1), "at least 16, got 15x32"),
    ],
)
def test_bad_shapes_are_refused(network, ir_shape, vis_shape, message):
    model, variables = network
    with pytest.raises(ValueError, match=message):
        model.apply(variables, jnp.zeros(ir_shape), jnp.zeros(vis_shape))


@pytest.mark.parametrize(
    ("reading", "norm"),
    [("paper", "batch"), ("paper", "image"), ("paper", "running"), ("paper", "adaptive"), ("released", "batch")],
)
def test_runtime_options_change_neither_parameters_nor_types(reading, norm, monkeypatch):
    """Rematerialisation does not even change values; with bfloat16 spectra and results stay float32."""
    model, variables = trained(reading)
    ir, vis = jax.random.uniform(jax.random.key(3), (2, 1, 20, 18, 1))
    seen = []
    rfft2 = spectral.rfft2
    monkeypatch.setattr(spectral, "rfft2", lambda x: [seen.append(x.dtype), rfft2(x)][1])

    def run(model):
        return jax.jit(lambda v: model.apply(v, ir, vis, norm=norm, mutable=["batch_stats"]))(variables)

    plain = run(model)
    for runtime, tolerance in ((RuntimeOptions(remat=True), 1e-6), (RuntimeOptions(precision="bfloat16"), 0.05)):
        other = model.clone(runtime=runtime)
        initial = jax.eval_shape(other.init, jax.random.key(1), ir, vis)
        chex.assert_trees_all_equal_shapes_and_dtypes(initial, variables)
        chex.assert_trees_all_close(run(other), plain, atol=tolerance)
    assert set(seen) == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("config", "norms"),
    [
        (ModelConfig.preset("paper", channels=4, stages=1), ("image", "batch")),
        (ModelConfig.preset("released", channels=4, stages=1, fusion_block="transformer"), ("adaptive", "running")),
        (ModelConfig(channels=4, stages=1, norm="none", base="exposed_sum", details=2), ("image",)),
    ],
)
def test_everything_is_float32_under_x64(config, norms):
    image, model = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32), RPFNet(config)
    with jax.enable_x64(True):
        variables = jax.eval_shape(lambda ir, vis_y: model.init(jax.random.key(0), ir, vis_y), image, image)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
        for norm in norms:
            apply = functools.partial(model.apply, norm=norm, mutable=norm == "batch" and ["batch_stats"])
            # Python's own numbers are scalars of double precision there, which change nothing.
            arrays = re.findall(r"\b(f32|f64|c64|c128)\[\d", str(jax.make_jaxpr(apply)(variables, image, image)))
            assert set(arrays) == {"f32", "c64"} - ({"c64"} if config.fusion_block == "transformer" else set())
