"""Fusing one pair: kinds of images in and out, options, refusals; the classical methods."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rpfnet_jax
from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.color import luminance, restore_color, to_uint8
from rpfnet_jax.data.images import write_image, write_png
from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.files import InputWarning
from rpfnet_jax.inference import BaselineFuser, Fuser, Sources, fuser, fusion_cost, open_pair
from rpfnet_jax.model import ModelConfig, RPFNet, fold
from rpfnet_jax.runtime import BackendError
from rpfnet_jax.training import calibrate
from rpfnet_jax.weights import save_weights

RNG = np.random.default_rng(0)
IR = RNG.integers(0, 256, (23, 31), dtype=np.uint8)
RGB = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)
UNIT = np.float32(255)


@pytest.mark.parametrize("vis", [RGB, RGB[..., 0], RGB[..., :1]], ids=["colour", "grey", "grey with channel"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64"])
def test_output_has_the_kind_and_size_of_the_visible_image(net, vis, kind):
    image = {"uint8": vis, "uint16": vis.astype(np.uint16) * 257}.get(kind, (vis / 255).astype(kind, casting="unsafe"))
    fused = net.fuse(IR, image)
    assert fused.dtype == np.uint8
    assert fused.shape == vis.shape
    np.testing.assert_array_equal(fused, net.fuse(IR, vis))


def test_colour_result_has_the_fused_luminance_and_the_chroma_of_the_visible_image(net):
    vis = (RGB // 4 + 96).astype(np.uint8)  # Muted colours, so that no channel clips.
    fused_rgb = net.fuse(IR, vis).astype(np.float64)
    vis_y = luminance(vis / 255)
    fused_y = np.asarray(net.fuse_luminance(IR[None, ..., None] / UNIT, vis_y.astype("f")[None, ..., None]))
    assert np.abs(luminance(fused_rgb) - 255 * fused_y[0, ..., 0]).max() < 1
    for channel in (0, 2):
        kept = (fused_rgb[..., channel] - luminance(fused_rgb)) - (vis[..., channel] - 255 * vis_y)
        assert np.abs(kept).max() < 1.5


def test_paths_and_arrays_give_the_same(net, tmp_path):
    Image.fromarray(IR).save(tmp_path / "ir.png")
    Image.fromarray(RGB).save(tmp_path / "vis.png")
    expected = net.fuse(IR, RGB)
    np.testing.assert_array_equal(net.fuse(tmp_path / "ir.png", str(tmp_path / "vis.png")), expected)
    np.testing.assert_array_equal(net.fuse(Image.fromarray(IR), Image.fromarray(RGB)), expected)
    clear = np.dstack([RGB, IR])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    for vis in (clear, Image.fromarray(clear), tmp_path / "clear.png"):
        np.testing.assert_array_equal(net.fuse(IR, vis), np.dstack([expected, IR]))


def test_deep_images_and_their_scaling(net, tmp_path):
    counts, deep = (7160 + 5 * IR.astype(np.uint16)), RGB.astype(np.uint16) * 200
    write_image(tmp_path / "ir.tif", counts)
    write_image(tmp_path / "vis.tif", deep)
    scaling = {"ir_scaling": "range:7160,8435", "vis_scaling": "range:0,51000"}
    expected = net.fuse(IR, RGB, dtype="float32")
    (many,) = net.fuse_many([(tmp_path / "ir.tif", deep)], dtype="float32", **scaling)
    for fused in (net.fuse(tmp_path / "ir.tif", tmp_path / "vis.tif", dtype="float32", **scaling), many.image):
        np.testing.assert_allclose(fused, expected, atol=1e-5)
    with pytest.raises(ValueError, match="thermal scaling 'best'"):
        net.fuse(counts, deep, ir_scaling="best")
    with pytest.raises(ValueError, match="no use beside"):
        net.fuse_many([], open_pair, ir_scaling="percentile:1,99")
    # Without it: the same warning for the file and, once, for the array.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rpfnet_jax.data.checks._warned", set())
        with pytest.warns(InputWarning, match=r'ir\.tif: .*1\.9% .*ir_scaling="percentile:1,99"'):
            from_file = net.fuse(tmp_path / "ir.tif", RGB)
        with pytest.warns(InputWarning, match=r"^the infrared image uses 1\.9% .*"):
            np.testing.assert_array_equal(net.fuse(counts, RGB), from_file)
        net.fuse(counts, RGB)


def test_output_types_agree(net):
    exact = net.fuse(IR, RGB, dtype="float32")
    assert exact.dtype == np.float32
    assert (exact.min(), exact.max()) >= (0, 0)
    np.testing.assert_array_equal(net.fuse(IR, RGB), np.rint(255 * exact).astype(np.uint8))
    np.testing.assert_array_equal(net.fuse(IR, RGB, dtype="uint16"), np.rint(65535 * exact).astype(np.uint16))


def test_options_of_a_call_replace_the_defaults(net):
    for norm, adapt in (("running", None), ("adaptive", 0.3)):
        other = Fuser(net.weights, norm, adapt)
        np.testing.assert_array_equal(net.fuse(IR, RGB, norm=norm, adapt=adapt), other.fuse(IR, RGB))
    assert not np.array_equal(net.fuse(IR, RGB, norm="running"), net.fuse(IR, RGB))


def test_each_shape_is_compiled_once_and_said(net):
    compiled = []
    net.on_compile = compiled.append
    for _ in range(2):
        net.fuse(IR[:20, :17], RGB[:20, :17])
    net.on_compile = None
    assert [program.shape for program in compiled] == [(1, 20, 17, 1)]


@pytest.mark.parametrize(("norm", "adapt"), [("image", None), ("running", None), ("adaptive", 0.3)])
def test_defaults_travel_with_the_weights_and_can_be_overridden(make_weights, tmp_path, norm, adapt):
    save_weights(tmp_path / "w.safetensors", make_weights(norm="running"))
    assert rpfnet_jax.load(tmp_path / "w.safetensors").defaults.norm == "running"
    other = rpfnet_jax.load(tmp_path / "w.safetensors", norm, adapt)
    pair = [IR[None, ..., None] / UNIT] * 2
    expected = jax.jit(other.model.apply, static_argnames="norm")(other.variables, *pair, norm=norm, adapt=adapt or 0.1)
    np.testing.assert_allclose(other.fuse_luminance(*pair), expected, atol=1e-6)


def test_studio_range_is_the_stretch_of_the_authors_script(make_weights, net):
    studio = Fuser(make_weights(color_range="studio"))
    plain = net.fuse(IR, RGB[..., 0]).astype(np.float64)
    np.testing.assert_allclose(studio.fuse(IR, RGB[..., 0]), np.clip(1.164 * (plain - 16), 0, 255), atol=1.2)


def test_features_are_those_of_the_network(make_weights):
    stages = Fuser(make_weights(ModelConfig(channels=4, stages=2))).features(IR, RGB)
    assert len(stages) == 2
    assert stages[0].fusion.shape == (1, 23, 31, 4)


@pytest.mark.parametrize(
    ("ir", "vis", "message"),
    [
        (IR[:-1], RGB, "IR is 22x31 and VIS is 23x31"),
        (IR, np.dstack([RGB, RGB]), r"got shape \(23, 31, 6\)"),
        (IR > 9, RGB, "got bool"),
        (IR.astype(np.int32), RGB, "32-bit signed values have no defined white"),
        (Image.fromarray(IR.astype(np.float32)), RGB, r"must lie in \[0, 1\]"),
        (IR.astype(np.float32), RGB, r"must lie in \[0, 1\]"),
        (np.full((23, 31), np.nan, np.float32), RGB, "713 of 713 values are NaN"),
        (IR, np.full((23, 31), np.nan, np.float32), r"must lie in \[0, 1\]"),
        (IR[:10], RGB[:10], "at least 16"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_unusable_arrays_are_refused(net, ir, vis, message):
    with pytest.raises(ValueError, match=message):
        net.fuse(ir, vis)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 20, 20), np.float32), r"must be \(batch, height, width, 1\), got \(1, 20, 20\)"),
        (np.zeros((1, 20, 9, 1), np.float32), "at least 16"),
        (np.zeros((1, 20, 20, 1), np.uint8), r"must be float32 in \[0, 1\], got uint8"),
    ],
)
@pytest.mark.parametrize("name", ["flir", "flir_small"])
def test_unusable_luminances_are_refused(image, message, name):
    with pytest.raises(ValueError, match=message):
        rpfnet_jax.load(name).fuse_luminance(image, image)


def test_arrays_of_jax_and_deep_pil_images_are_what_numpys_are(net):
    np.testing.assert_array_equal(net.fuse(jnp.asarray(IR), jnp.asarray(RGB)), net.fuse(IR, RGB))
    deep = RNG.integers(0, 2**16, IR.shape, np.uint16)
    images = [net.fuse(ir, RGB, dtype="uint16") for ir in (deep, Image.fromarray(deep))]
    np.testing.assert_array_equal(*images)


@pytest.mark.usefixtures("as_users_run_it")
def test_unknown_output_types_are_refused(net):
    with pytest.raises(ValueError, match="uint8, uint16, float32; got 'int8'"):
        net.fuse(IR, RGB, dtype="int8")


def test_batch_statistics_and_an_adapt_without_effect_are_refused(make_weights):
    with pytest.raises(ValueError, match="image, running or adaptive"):
        Fuser(make_weights(), norm="batch")
    with pytest.raises(ValueError, match="only with norm=adaptive"):
        Fuser(make_weights(), adapt=0.3)
    with pytest.raises(ValueError, match=r"adapt must be in \[0, 1\]"):
        Fuser(make_weights(), norm="adaptive", adapt=1.5)


def test_adaptation_and_calibration_are_refused_where_there_are_no_norms(make_weights):
    weights = make_weights(ModelConfig(channels=4, stages=1, norm="none"))
    with pytest.raises(ValueError, match="adapt has no effect on these weights"):
        Fuser(weights).using(norm="adaptive", adapt=0.5)
    with pytest.raises(ValueError, match="no statistics to calibrate"):
        calibrate(RPFNet(weights.model), weights.variables, [])


def test_an_empty_collection_of_statistics_is_as_good_as_none(make_weights):
    """Training gives one for networks without norms, files have none; both use one compiled function."""
    weights = make_weights(ModelConfig(channels=4, stages=1, norm="none"))
    assert "batch_stats" not in weights.variables
    trained = dataclasses.replace(weights, variables={**weights.variables, "batch_stats": {}})
    images = [Fuser(either).fuse(IR, RGB) for either in (weights, trained)]
    np.testing.assert_array_equal(*images)


def test_statistics_are_folded_once(make_weights, monkeypatch):
    folded = []
    monkeypatch.setattr(fuser, "fold", lambda *network: folded.append(1) or fold(*network))
    net = Fuser(make_weights())
    for _ in range(2):
        net.fuse(IR, RGB, norm="running")
    assert folded == [1]


def test_a_pair_of_files_gets_its_colour_from_where_it_says(net, tmp_path):
    ir, vis = tmp_path / "ir.png", tmp_path / "vis.png"
    write_png(ir, RGB)
    write_png(vis, IR)
    coloured = next(net.fuse_many([Pair("a", ir, vis, color=ir)], open_pair)).image
    with pytest.warns(InputWarning, match=r"ir\.png: the infrared image has false colours"):
        grey = next(net.fuse_many([Pair("a", ir, vis)], open_pair)).image
    np.testing.assert_array_equal(grey, net.fuse(ir, vis))
    luminances = net.fuse_luminance(*(x[None, ..., None] for x in (open_pair(Pair("a", ir, vis)).ir, IR / UNIT)))
    expected = Sources(IR / 255, IR / 255, RGB).restore(np.asarray(luminances)[0, ..., 0], "full", "uint8")
    assert coloured.shape == RGB.shape
    assert np.abs(coloured.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("method", list(BASELINES))
def test_classical_methods_give_their_functions_luminance_and_the_chroma_of_the_visible_image(method):
    fused = BaselineFuser(method).fuse(IR, RGB[..., 1], dtype="float32")
    np.testing.assert_array_equal(fused, BASELINES[method](IR / UNIT, RGB[..., 1] / UNIT))
    fused_y = BASELINES[method](IR / UNIT, luminance(RGB / UNIT))
    np.testing.assert_array_equal(BaselineFuser(method).fuse(IR, RGB), to_uint8(restore_color(fused_y, RGB / UNIT)))


def test_classical_methods_in_studio_range():
    muted = (RGB // 4 + 96).astype(np.uint8)
    full, studio = (BaselineFuser("average", name).fuse(IR, muted[..., 0]).astype(float) for name in ("full", "studio"))
    np.testing.assert_allclose(studio, np.clip(1.164 * (full - 16), 0, 255), atol=1.2)


def test_classical_methods_in_batches_where_small_images_cost_only_themselves():
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


def test_a_fuser_can_be_pickled_with_its_defaults(make_weights):
    net = Fuser(make_weights()).using(norm="adaptive", adapt=0.3, color_range="studio")
    net.on_compile = lambda program: None
    copy = pickle.loads(pickle.dumps(net))
    assert copy.defaults == net.defaults
    assert copy.weights.model == net.weights.model
    assert copy.on_compile is None
    np.testing.assert_array_equal(copy.fuse(IR, RGB), net.fuse(IR, RGB))
    tiled = pickle.loads(pickle.dumps(Fuser(make_weights()).in_tiles(16, 4)))
    assert (tiled.tile, tiled.overlap, tiled.net.defaults.norm) == (16, 4, "running")


def test_weights_on_a_device_are_pickled_as_numpy_arrays(make_weights):
    weights = make_weights()
    net = Fuser(dataclasses.replace(weights, variables=jax.device_put(weights.variables)))
    loaded = pickle.loads(pickle.dumps(net)).weights.variables
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded))


def test_a_forked_child_gets_an_error(net, monkeypatch):
    sent = pickle.dumps(net)
    monkeypatch.setattr("rpfnet_jax.runtime._started_in", 1)
    # An error of unpickling itself would end the worker of a pool, which then waits for ever.
    received = pickle.loads(sent)
    for use in (lambda: net.fuse(IR, RGB), lambda: received.fuse(IR, RGB), lambda: Fuser(net.weights)):
        with pytest.raises(BackendError, match=r"was forked from process 1.*spawn"):
            use()


def test_images_are_fused_in_float32_under_x64(net):
    ir, vis = IR[:22], RGB[:22]
    with jax.enable_x64(True):
        exact = net.fuse(ir, vis, dtype="float32")
        assert net.fuse_luminance(*(np.zeros((1, 16, 16, 1), "f") for _ in range(2))).dtype == np.float32
    np.testing.assert_array_equal(exact, net.fuse(ir, vis, dtype="float32"))


def test_networks_run_without_jit(net):
    with jax.disable_jit():
        eager = net.fuse(IR[:16, :16], RGB[:16, :16], dtype="float32")
        with pytest.raises(ValueError, match="nothing is compiled while JAX_DISABLE_JIT is set"):
            net.compile((1, 16, 16, 1))
        with pytest.raises(ValueError, match="nothing is compiled while JAX_DISABLE_JIT is set"):
            fusion_cost(net, 16, 16)
    np.testing.assert_allclose(eager, net.fuse(IR[:16, :16], RGB[:16, :16], dtype="float32"), atol=1e-5)
