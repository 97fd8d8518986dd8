"""`train` and `evaluate` as a user types them; `tests/test_pipeline.py` and `tests/training/` train with them."""

import pytest

from rpfnet_jax import recipes
from rpfnet_jax.cli import train
from rpfnet_jax.cli.train import read_config
from rpfnet_jax.pipeline import Trained
from tests.cli.helpers import one_line

# ml_collections loads files by a deprecated function of importlib.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")


@pytest.fixture
def trained(monkeypatch):
    """Records the calls of `train_and_evaluate`, which does nothing."""
    calls = []

    def record(config, workdir):
        calls.append((config, workdir))
        return Trained(finished=False, steps=3, seconds=1.0)

    monkeypatch.setattr(train, "train_and_evaluate", record)
    monkeypatch.setattr(train, "prepare_process", lambda cpu_devices: calls.append(cpu_devices))
    monkeypatch.setattr(train.signal, "signal", lambda *arguments: None)
    return calls


def test_a_recipe_by_name_with_fields(rpfnet, trained):
    done = rpfnet("train", "--config=flir_small", "--config.steps", "7", "--config.model.cpm=false")
    assert done == (0, "stopped after step 3; the same command continues\n", "")
    cpu_devices, (config, workdir) = trained
    assert cpu_devices
    assert (config.name, config.steps, config.model.channels, config.model.cpm) == ("flir_small", 7, 16, False)
    assert str(workdir) == "RUNS/flir_small"


def test_a_file_a_workdir_and_a_process_of_several(rpfnet, trained, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from rpfnet_jax.recipes import flir\n\n\ndef get_config(variant):\n    return flir.get_config(variant)\n"
    )
    places = [f"--config={tmp_path / 'mine.py'}:released", f"--workdir={tmp_path / 'run'}"]
    assert rpfnet("train", *places, "--config.distributed.coordinator=host:1").code == 0
    cpu_devices, (config, workdir) = trained
    assert not cpu_devices
    assert (config.model.reading, workdir) == ("released", tmp_path / "run")


def test_print_config_trains_nothing(rpfnet, trained):
    done = rpfnet("train", "--config=flir:released", "--config.loss.lambda2=4", "--print-config")
    assert done.code == 0
    assert "  lambda2: 4.0\n" in done.out
    assert "  ssim_window: 3\n" in done.out
    assert not trained


@pytest.mark.parametrize("error", [train.CheckpointError, train.DivergedError, train.PeerError, OSError, MemoryError])
def test_errors_of_a_run_are_one_line(rpfnet, trained, monkeypatch, error):
    def fail(config, workdir):
        raise error("it is broken")

    monkeypatch.setattr(train, "train_and_evaluate", fail)
    assert one_line(rpfnet("train", "--config=smoke")) == "it is broken"
    shown = rpfnet("train", "--config=smoke", "--verbosity=1").err
    assert shown.startswith("error: it is broken\nTraceback")


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_can_be_read_by_name(name):
    config = read_config(name)
    assert config.name == name
    assert config.is_locked


def test_old_command_lines_work():
    fields = ["--config.model.gate_kernel=1", "--config.loss.ssim_window=3", "--config.schedule.shape=cosine"]
    config = read_config("configs/flir.py", [*fields, "--config.data.sets=('a','b')", "--config.average=0.5"])
    assert (config.model.gate_kernel, config.loss.ssim_window, config.schedule.shape) == (1, 3, "cosine")
    assert (config.data.sets, config.average) == (("a", "b"), 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=nowhere"], "--config=nowhere: neither a file nor one of the recipes flir, flir_released,"),
        (["--config=flir:printed"], "--config=flir:printed: model.reading must be one of paper, released; got"),
        (["--config=flir_plus:huge"], "flir_plus has the variants plus and small, got 'huge'"),
        (["--config=flir", "--config.modle.stages=2"], 'no such field: modle. Did you mean "model"'),
        (["--config=flir", "--config.loss.xyz=2"], "no such field: xyz"),
        (["--config=flir", "--config.model.stages=two"], "flag --config.model.stages=two: invalid literal for int()"),
        (["--config=flir", "--config.model.reading=released"], "--config=NAME:released, as in flir:released"),
        (["--config=smoke", "--config.loss.reading=released"], "--config=NAME:released, as in flir:released"),
        (["--config=flir", "--config.model.norm=none", "--fly=1"], "Unknown command line flag 'fly'"),
        (["--config=flir", "fly"], "unknown arguments: fly"),
    ],
)
def test_wrong_configurations_are_one_line(rpfnet, trained, as_users_run_it, arguments, message):
    assert message in one_line(rpfnet("train", *arguments))
    assert not trained


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights=untrained", "--data=."], "--config is needed"),
        (["--weights=flir"], "--config is needed"),
        (["--weights=flir", "--data=.", "--config.steps=3"], "unknown arguments: --config.steps=3"),
        (["--weights=none.safetensors", "--config=smoke"], "no weights at none"),
        (["--weights=flir", "--data=none"], "none: "),
        (["--weights=flir", "--data=none", "--adapt=0.5"], "adapt=0.5 has an effect only with norm=adaptive"),
    ],
)
def test_evaluate_refuses_in_one_line(rpfnet, arguments, message):
    assert message in one_line(rpfnet("evaluate", *arguments))
