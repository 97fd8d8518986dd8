"""ONNX graphs in ONNX Runtime against the modules that they mirror."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from rpfnet_jax.cli import main
from rpfnet_jax.export import Network, functions, modules, to_onnx, to_stablehlo
from rpfnet_jax.export.graph import OPSET, Graph
from rpfnet_jax.inference import Fuser, load
from rpfnet_jax.model import ModelConfig, RPFNet, fold
from rpfnet_jax.ops import filters, tone
from rpfnet_jax.weights import FusionDefaults, Weights, shipped_names
from tests.networks import network_variables

onnxruntime = pytest.importorskip("onnxruntime")

# Odd and even, prime, square, narrow.
SIZES = [(16, 16), (17, 31), (18, 24), (25, 40), (45, 16)]
# Configuration and norm mode: both readings, both kinds of norms, and what is neither.
CASES = {
    "paper, image": (ModelConfig(channels=4, stages=1), "image"),
    "released, running": (ModelConfig.preset("released", channels=4, stages=1), "running"),
    "without norms": (ModelConfig(channels=4, stages=1, norm="none", base="exposed_sum", details=3), "none"),
    "fusion branch": (ModelConfig(channels=4, share_stages=False, cpm=False, residual_prior=False), "image"),
}
# All of them are in the list of operators that TensorRT publishes.
OPERATORS = (
    "Add Cast Clip Concat Conv Cos Div Equal Expand Gather Identity InstanceNormalization Log MatMul Max Min Mod Mul "
    "Or Pad Pow Range ReduceMean ReduceSum Relu Reshape Round Shape Sigmoid Sin Slice Split Sqrt Sub Transpose "
    "Unsqueeze Where"
)


def luminances(size, seed=0):
    """An infrared and a visible batch, (2, H, W, 1)."""
    return np.random.default_rng(seed).uniform(size=(2, 2, *size, 1)).astype(np.float32)


@functools.cache
def network(case):
    """Configuration, parameters as NumPy arrays, and a function of luminances that returns all outputs."""
    config, mode = CASES[case]
    variables = network_variables(config)
    apply = jax.jit(functools.partial(RPFNet(config).apply, variables, norm=mode, features=True))
    variables = jax.tree.map(np.asarray, variables)
    if mode == "running":
        config, variables = fold(config, variables)
    return config, variables["params"], apply


@functools.cache
def expected(case, size):
    """The fused luminance and the feature maps of every stage."""
    fused, maps = network(case)[2](*luminances(size))
    return [np.asarray(fused), *(np.asarray(x) for x in jax.tree.leaves(maps))]


def session_of(case, size, monkeypatch):
    """A network in ONNX Runtime that returns the outputs of all modules; height and width are free without a size."""
    config, params, _ = network(case)
    graph, free = Graph(), ("b", None, None, None)
    ir, vis = (graph.input(name, "float32", ("b", 1, *(size or ("h", "w")))) for name in ("ir", "vis"))
    transforms = functions.FixedFourier(config.channels, *size) if size else functions.Fourier(ir)
    maps, stage = [], modules.stage

    def recorded(*arguments):
        outputs = stage(*arguments)
        maps.extend(x for x in outputs if x is not None)
        return outputs

    monkeypatch.setattr(modules, "stage", recorded)
    for index, tensor in enumerate([modules.rpfnet(config, ir, vis, params, transforms), *maps]):
        graph.output(tensor, f"output_{index}", "float32", free)
    return onnxruntime.InferenceSession(graph.model().SerializeToString())


def run(session, ir, vis):
    """Runs a session on channels-last arrays and returns its outputs so."""
    outputs = session.run(None, {"ir": np.moveaxis(ir, 3, 1), "vis": np.moveaxis(vis, 3, 1)})
    return [np.moveaxis(output, 1, 3) for output in outputs]


@pytest.mark.parametrize("form", ["free", "fixed"])
@pytest.mark.parametrize("case", CASES)
def test_every_module_computes_what_it_mirrors(case, form, monkeypatch):
    """CPM, RPM and FDFM of every stage and the head, each from the outputs of those before it."""
    session = session_of(case, None, monkeypatch) if form == "free" else None
    # The modules of the last case are in the others, too.
    for size in SIZES if case != "fusion branch" else SIZES[1:2]:
        found = run(session or session_of(case, size, monkeypatch), *luminances(size))
        assert len(found) == len(expected(case, size))
        for theirs, ours in zip(found, expected(case, size), strict=True):
            assert theirs.shape == ours.shape
            assert np.abs(theirs - ours).max() <= 1e-5 * max(1, np.abs(ours).max()), size


@pytest.mark.parametrize("brightness", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("size", SIZES[1:3])
def test_base_and_details_by_day_and_at_night(size, brightness):
    ir, vis = luminances(size) * np.float32(brightness)
    graph = Graph()
    tensors = [graph.input(name, "float32", ("b", 1, "h", "w")) for name in ("ir", "vis")]
    graph.output(functions.logit(functions.exposed_sum(*tensors)), "base", "float32", ("b", 1, "h", "w"))
    details = functions.starlet(graph.concat(*tensors, axis=1), 4)
    graph.output(details, "details", "float32", ("b", 8, None, None))
    base, details = run(onnxruntime.InferenceSession(graph.model().SerializeToString()), ir, vis)
    np.testing.assert_allclose(base, tone.logit(tone.exposed_sum(jnp.asarray(ir), jnp.asarray(vis))), atol=1e-5)
    ours = np.concatenate([filters.starlet(jnp.asarray(image), 4) for image in (ir, vis)], -1)
    np.testing.assert_allclose(details, ours, atol=1e-6)


@pytest.mark.parametrize("size", [(17, 31), (24, 40), (13, 16)])
def test_fixed_transforms_of_spectra_that_are_not_hermitian(size):
    """As between the two transforms of the FDFM; NumPy is the definition."""
    height, width = size
    spectrum = np.random.default_rng(0).normal(size=(1, 2 * 3, height, width // 2 + 1)).astype(np.float32)
    graph = Graph()
    z = graph.input("z", "float32", spectrum.shape)
    graph.output(functions.FixedFourier(3, height, width).irfft2(z), "x", "float32", (1, 3, height, width))
    (found,) = onnxruntime.InferenceSession(graph.model().SerializeToString()).run(None, {"z": spectrum})
    real, imaginary = np.split(spectrum.astype(float), 2, axis=1)
    np.testing.assert_allclose(found, np.fft.irfft2(real + 1j * imaginary, size, norm="ortho"), atol=1e-5)


@pytest.mark.filterwarnings("ignore:the infrared image has false colours")
@pytest.mark.parametrize("color_range", ["full", "studio"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_out_as_from_fuse(channels, color_range):
    config, _ = CASES["without norms"]
    variables = {"params": network("without norms")[1]}
    weights = Weights(config, variables, FusionDefaults(color_range=color_range))
    rng = np.random.default_rng(0)
    ir, vis = (rng.integers(0, 256, (18, 24, count), np.uint8) for count in (channels, 3))
    session = onnxruntime.InferenceSession(to_onnx(Network(weights), image=True))
    (found,) = session.run(None, {"ir": ir[None], "vis": vis[None]})
    assert found.dtype == np.uint8
    assert_same_image(found[0], Fuser(weights).fuse(ir, vis))


def assert_same_image(found, ours):
    """At most one grey level apart, on fewer than 0.1 % of the values."""
    difference = np.abs(found.astype(int) - ours)
    assert difference.max() <= 1
    assert difference.mean() < 0.001


def test_the_command_writes_a_file_that_says_what_it_is(tmp_path, capsys):
    path = tmp_path / "small.onnx"
    assert main(["export", "flir_small", "-o", str(path), "--picture"]) == 0
    assert "kB, any height and width" in capsys.readouterr().out
    model = onnx.load(path)
    record = {entry.key: entry.value for entry in model.metadata_props}
    assert record == Network.load("flir_small").record()
    assert ModelConfig(**json.loads(record["model"])) == load("flir_small").config
    assert [entry.version for entry in model.opset_import] == [OPSET]
    assert {node.op_type for node in model.graph.node} <= set(OPERATORS.split())
    assert main(["export", "flir_small", "-o", str(path), "--size=16x24"]) == 0
    model = onnx.load(path)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [0, 1, 16, 24]
    assert {node.op_type for node in model.graph.node} <= set(OPERATORS.split())


def test_the_digest_is_that_of_the_weights_alone():
    weights = Network.load("flir_small").weights
    digest = Network(weights).record()["weights_sha256"]
    assert Network(dataclasses.replace(weights, training={}), (16, 16)).record()["weights_sha256"] == digest
    changed = jax.tree.map(lambda x: x * np.float32(1.0000001), weights.variables)
    assert Network(dataclasses.replace(weights, variables=changed)).record()["weights_sha256"] != digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.bin"], "must end in .onnx or .stablehlo, or --format"),
        (["-o", "x.onnx", "--size=8x640"], "at least 16, got 8x640"),
        (["-o", "x.stablehlo", "--picture"], "--picture is for --format=onnx"),
    ],
)
def test_errors_of_the_command(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "flir_small", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_onnx_files_can_not_hold():
    weights = Network.load("flir").weights
    with pytest.raises(ValueError, match="adaptive"):
        Network.load("flir", "adaptive")
    other = dataclasses.replace(weights, model=dataclasses.replace(weights.model, fusion_block="transformer"))
    with pytest.raises(ValueError, match="fusion_block='transformer'"):
        to_onnx(Network(other))
    with pytest.raises(ValueError, match="for one size only"):
        to_stablehlo(Network(other))


def check_weights(path, norm, size, read):
    """Compares the images of exported weights with those of `fuse`."""
    net = load(path, norm)
    rng = np.random.default_rng(0)
    # Smooth scenes with noise: more like an image than noise alone.
    waves = 128 + 100 * np.sin(np.arange(96)[:, None, None] / 9 + np.arange(128)[:, None] / 13 + np.arange(3))
    ir, vis = (
        np.clip((waves if scale < 1 else waves[..., :1]) * scale + rng.normal(0, 9, (96, 128, 1)), 0, 255).astype(
            np.uint8
        )
        for scale in (1, 0.7)
    )
    (found,) = read(to_onnx(Network.load(path, norm, size), image=True), ir[None], vis[None])
    assert_same_image(found, net.fuse(ir, vis))


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (96, 128)])
@pytest.mark.parametrize("norm", ["image", "running"])
@pytest.mark.parametrize("name", [*shipped_names(), "Model.pth"])
def test_all_weights(name, norm, size, request):
    path = request.getfixturevalue("released_path") if name == "Model.pth" else name
    if norm == "running" and load(path).config.norm == "none":
        pytest.skip("a network without norms has no modes")
    check_weights(
        path, norm, size, lambda data, ir, vis: onnxruntime.InferenceSession(data).run(None, {"ir": ir, "vis": vis})[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (96, 128)])
@pytest.mark.parametrize("name", ["flir_plus", "flir"])
def test_openvino_reads_it(name, size):
    openvino = pytest.importorskip("openvino")

    def read(data, ir, vis):
        core = openvino.Core()
        # Some CPUs would compute in bfloat16 by default.
        model = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return model({"ir": ir, "vis": vis})[0]

    check_weights(name, "image", size, read)
