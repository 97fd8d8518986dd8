"""The commands, called as a user calls them, and a tiny network."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from PIL import Image

from rpfnet_jax.cli import main
from rpfnet_jax.inference import Fuser, load
from rpfnet_jax.model import ModelConfig, variable_shapes
from rpfnet_jax.weights import Weights, save_weights


class Done(NamedTuple):
    """A command's exit code and output."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_process(monkeypatch):
    """The commands set the process up; the tests keep the cache, allocator and devices that they have."""
    monkeypatch.setattr("rpfnet_jax.cli.commands.prepare_process", lambda **options: None)


@pytest.fixture
def rpfnet(capsys) -> Callable[..., Done]:
    """Runs a command line in this process."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except KeyboardInterrupt:
            # It would otherwise end the test session.
            pytest.fail("Ctrl-C ends with a traceback")
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def weights_path(tmp_path_factory) -> Path:
    """Weights of a tiny untrained network, whose default is image mode."""
    config, rng = ModelConfig(channels=4, stages=2), np.random.default_rng(0)
    # Running variances must be positive.
    leaves = {
        name: rng.uniform(0.5, 2, shape) if name.endswith("/var") else rng.normal(0, 0.3, shape)
        for name, shape in variable_shapes(config).items()
    }
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, Weights(config, unflatten_dict(leaves, sep="/")))
    return path


@pytest.fixture(scope="session")
def net(weights_path) -> Fuser:
    return load(weights_path)


@pytest.fixture(scope="session")
def noise() -> Callable[..., np.ndarray]:
    """Random 8-bit pixels: of one shape nearly everywhere, so that little is compiled."""
    return lambda seed, *shape: np.random.default_rng(seed).integers(0, 256, shape or (24, 40), dtype=np.uint8)


@pytest.fixture
def scenes(tmp_path, noise) -> Callable[..., None]:
    """Writes a grey `ir/NAME.png` and a coloured `vis/NAME.png`, with different pixels for each name."""

    def write(*names: str) -> None:
        for name in names:
            for side, shape in (("ir", (24, 40)), ("vis", (24, 40, 3))):
                path = tmp_path / side / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise([*name.encode(), len(shape)], *shape)).save(path)

    return write


@pytest.fixture
def fuse(rpfnet, weights_path, tmp_path):
    """Runs `fuse` on the folders `ir` and `vis` into `out`, and looks for temporary files left over."""

    def run(*options, weights=True):
        places = [f"--ir={tmp_path / 'ir'}", f"--vis={tmp_path / 'vis'}", f"--out={tmp_path / 'out'}"]
        done = rpfnet("fuse", *places, *([f"--weights={weights_path}"] if weights else []), *options)
        assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
        return done

    return run
