"""StableHLO files, written once and read in a process that lacks the model."""

import subprocess
import sys

import jaxtyping
import numpy as np
import pytest

from rpfnet_jax.cli import main
from rpfnet_jax.export import Network, load, to_stablehlo
from rpfnet_jax.export.exported import PLATFORMS
from rpfnet_jax.files import FileError
from rpfnet_jax.inference import Fuser
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights import Weights
from tests.networks import network_variables

SIZES = [(17, 31), (18, 24)]
CONFIG = ModelConfig(channels=4, stages=1, norm="none", base="exposed_sum", details=3)

# Bare JAX first, and then our reader, which needs the model as little.
READER = """
import sys, json, zipfile
import numpy as np
import jax

path, images, out = sys.argv[1:]
with zipfile.ZipFile(path) as archive:
    program = jax.export.deserialize(bytearray(archive.read("program.jax_export")))
assert not any(name.startswith("rpfnet_jax") for name in sys.modules)
sys.modules["rpfnet_jax.model"] = None
from rpfnet_jax.export import load

net, found = load(path), {}
for name, image in np.load(images).items():
    ir, vis = np.float32(image[..., :1])[None] / 255, np.float32(image[..., 1:2])[None] / 255
    found[f"bare {name}"] = jax.jit(program.call)(ir, vis)[0]
    found[f"fuse {name}"] = net.fuse(image[..., 0], image)
np.savez(out, platforms=program.platforms, **found)
"""


@pytest.fixture(scope="module")
def weights():
    return Weights(CONFIG, network_variables(CONFIG))


def write(network, path):
    """Without the checks of shapes, which only tests have and which do not know sizes that are free."""
    jaxtyping.config.update("jaxtyping_disable", True)
    path.write_bytes(to_stablehlo(network))
    jaxtyping.config.update("jaxtyping_disable", False)
    return path


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    return write(Network(weights), tmp_path_factory.mktemp("export") / "network.stablehlo")


def test_any_size_without_our_model(file, weights, tmp_path):
    rng = np.random.default_rng(0)
    images = {f"{h}x{w}": rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in SIZES}
    np.savez(tmp_path / "images.npz", **images)
    command = [sys.executable, "-c", READER, str(file), str(tmp_path / "images.npz"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True)
    found, net = np.load(tmp_path / "out.npz"), Fuser(weights)
    assert tuple(found["platforms"]) == PLATFORMS
    for name, image in images.items():
        ir, vis = (image[None, ..., side : side + 1].astype(np.float32) / np.float32(255) for side in (0, 1))
        np.testing.assert_allclose(found[f"bare {name}"], net.fuse_luminance(ir, vis)[0], atol=1e-5)
        difference = np.abs(found[f"fuse {name}"].astype(int) - net.fuse(image[..., 0], image))
        assert difference.max() <= 1
        assert difference.mean() < 0.001


def test_a_size_without_room_for_others(weights, tmp_path):
    path = write(Network(weights, (18, 24)), tmp_path / "fixed.stablehlo")
    image = np.random.default_rng(0).integers(0, 256, (18, 24), np.uint8)
    fused = load(path).fuse(image, image[::-1])
    assert fused.shape == (18, 24)
    assert np.abs(fused.astype(int) - Fuser(weights).fuse(image, image[::-1])).max() <= 1
    with pytest.raises(ValueError, match="24"):
        load(path).fuse(image[:, :20], image[:, :20])


def test_images_of_unequal_sizes_and_sides_below_16_are_refused(file):
    net = load(file)
    with pytest.raises(ValueError, match="same height and width"):
        net.fuse(np.zeros((18, 24), np.uint8), np.zeros((18, 25), np.uint8))
    with pytest.raises(ValueError, match="at least 16"):
        net.fuse(np.zeros((8, 24), np.uint8), np.zeros((8, 24), np.uint8))


def test_files_of_another_kind_are_named(tmp_path, file):
    damaged = tmp_path / "damaged.stablehlo"
    for content in (b"", b"text", file.read_bytes()[:-40], file.read_bytes()[100:]):
        damaged.write_bytes(content)
        with pytest.raises(FileError, match=r"damaged\.stablehlo: not a StableHLO file"):
            load(damaged)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", ["flir_plus", "flir"])
def test_shipped_weights(name, tmp_path, capsys):
    from rpfnet_jax.inference import load as load_weights

    path = tmp_path / "x.stablehlo"
    assert main(["export", name, "-o", str(path)]) == 0
    assert "any height and width" in capsys.readouterr().out
    assert load(path).record == Network.load(name).record()
    rng = np.random.default_rng(0)
    ir, vis = rng.uniform(size=(2, 1, 97, 133, 1)).astype(np.float32)
    ours = load_weights(name).fuse_luminance(ir, vis)
    np.testing.assert_allclose(load(path).fuse_luminance(ir, vis), ours, atol=1e-5)
