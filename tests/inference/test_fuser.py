"""Fusing: kinds of pictures in and out, sizes, laws, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rpfnet_jax
from rpfnet_jax.data.color import luminance
from rpfnet_jax.data.images import read_image
from rpfnet_jax.data.pairs import PairError, find_pairs
from rpfnet_jax.inference import Fuser, fuse_pairs
from rpfnet_jax.model import ModelConfig, RPFNet, init_variables
from rpfnet_jax.weights import FusionDefaults, Weights, save_weights

RNG = np.random.default_rng(0)
IR = RNG.integers(0, 256, (23, 31), dtype=np.uint8)
RGB = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)


def make_weights(**defaults) -> Weights:
    config = ModelConfig(channels=4, stages=2)
    image = jnp.zeros((1, 16, 16, 1))
    variables = init_variables(RPFNet(config), jax.random.key(0), image, image)
    return Weights(config, variables, FusionDefaults(**defaults))


@pytest.fixture(scope="module")
def net() -> Fuser:
    return Fuser(make_weights())


@pytest.mark.parametrize("vis", [RGB, RGB[..., 0], RGB[..., :1]], ids=["colour", "grey", "grey with channel"])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_output_has_the_kind_and_size_of_the_visible_picture(net, vis, kind):
    picture = vis if kind == "uint8" else (vis / 255).astype(kind)
    fused = net.fuse(IR, picture)
    assert fused.dtype == np.uint8
    assert fused.shape == vis.shape
    np.testing.assert_array_equal(fused, net.fuse(IR, vis))


def test_colour_result_has_the_fused_luminance_and_the_chroma_of_the_visible_picture(net):
    vis = (RGB // 4 + 96).astype(np.uint8)  # Muted colours, so that no channel clips.
    fused_rgb = net.fuse(IR, vis).astype(np.float64)
    vis_y = luminance(vis / 255)
    fused_y = np.asarray(net.fuse_luminance(IR[None, ..., None] / np.float32(255), vis_y.astype("f")[None, ..., None]))
    assert np.abs(luminance(fused_rgb) - 255 * fused_y[0, ..., 0]).max() < 1
    for channel in (0, 2):
        kept = (fused_rgb[..., channel] - luminance(fused_rgb)) - (vis[..., channel] - 255 * vis_y)
        assert np.abs(kept).max() < 1.5


def test_paths_and_arrays_give_the_same(net, tmp_path):
    Image.fromarray(IR).save(tmp_path / "ir.png")
    Image.fromarray(RGB).save(tmp_path / "vis.png")
    np.testing.assert_array_equal(net.fuse(tmp_path / "ir.png", str(tmp_path / "vis.png")), net.fuse(IR, RGB))


@pytest.mark.parametrize(("norm", "adapt"), [("image", None), ("running", None), ("adaptive", 0.3)])
def test_defaults_travel_with_the_weights_and_can_be_overridden(tmp_path, norm, adapt):
    save_weights(tmp_path / "w.safetensors", make_weights(norm="running"))
    net = rpfnet_jax.load(tmp_path / "w.safetensors")
    assert net.defaults.norm == "running"
    other = rpfnet_jax.load(tmp_path / "w.safetensors", norm, adapt)
    expected = other.model.apply(
        other.variables, *[IR[None, ..., None] / np.float32(255)] * 2, norm=norm, adapt=adapt or 0.1
    )
    np.testing.assert_allclose(other.fuse_luminance(*[IR[None, ..., None] / np.float32(255)] * 2), expected, atol=1e-6)


def test_studio_range_is_the_stretch_of_the_authors_script(net):
    studio = Fuser(make_weights(color_range="studio"))
    plain = net.fuse(IR, RGB[..., 0]).astype(np.float64)
    np.testing.assert_allclose(studio.fuse(IR, RGB[..., 0]), np.clip(1.164 * (plain - 16), 0, 255), atol=1.2)


def test_features_are_those_of_the_network(net):
    stages = net.features(IR, RGB)
    assert len(stages) == 2
    assert stages[0].fusion.shape == (1, 23, 31, 4)


@pytest.mark.parametrize(
    ("ir", "vis", "message"),
    [
        (IR[:-1], RGB, "IR is 22x31 and VIS is 23x31"),
        (IR, RGB[..., :2], r"got shape \(23, 31, 2\)"),
        (IR.astype(np.int32), RGB, "int32"),
        (IR.astype(np.float32), RGB, r"must lie in \[0, 1\]"),
        (np.full((23, 31), np.nan, np.float32), RGB, r"must lie in \[0, 1\]"),
        (IR[:10], RGB[:10], "at least 16"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_unusable_arrays_are_refused(net, ir, vis, message):
    with pytest.raises(ValueError, match=message):
        net.fuse(ir, vis)


def test_batch_statistics_and_an_adapt_without_effect_are_refused():
    with pytest.raises(ValueError, match="image, running or adaptive"):
        Fuser(make_weights(), norm="batch")
    with pytest.raises(ValueError, match="only with norm=adaptive"):
        Fuser(make_weights(), adapt=0.3)
    with pytest.raises(ValueError, match=r"adapt must be in \[0, 1\]"):
        Fuser(make_weights(), norm="adaptive", adapt=1.5)


def test_sources_are_never_overwritten(net, tmp_path):
    write_pair(tmp_path, "a", (20, 30))
    before = (tmp_path / "vis" / "a.png").read_bytes()
    with pytest.raises(ValueError, match="would overwrite"):
        list(fuse_pairs(net, find_pairs(tmp_path), tmp_path / "vis"))
    assert (tmp_path / "vis" / "a.png").read_bytes() == before


def write_pair(root, name, size, vis_size=None):
    for side, side_size in (("ir", size), ("vis", vis_size or size)):
        (root / side).mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, side_size, dtype=np.uint8)).save(root / side / f"{name}.png")


def test_folder_is_fused_shape_by_shape_under_the_inputs_names(net, tmp_path):
    for name, size in (("b", (20, 30)), ("a", (25, 18)), ("c", (20, 30))):
        write_pair(tmp_path, name, size)
    fused = dict(fuse_pairs(net, find_pairs(tmp_path), tmp_path / "out"))
    assert [pair.name for pair in fused] == ["b", "c", "a"]
    for pair, picture in fused.items():
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"{pair.name}.png"), picture)


def test_nothing_is_fused_when_a_pair_is_not_usable(net, tmp_path):
    write_pair(tmp_path, "good", (20, 30))
    write_pair(tmp_path, "bad", (20, 30), (20, 31))
    with pytest.raises(PairError, match="bad"):
        list(fuse_pairs(net, find_pairs(tmp_path), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
