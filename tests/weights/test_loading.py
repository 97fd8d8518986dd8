"""Loading by name and from a workdir."""

import hashlib
import json
from pathlib import Path

import chex
import numpy as np
import pytest

import rpfnet_jax
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights import Weights, WeightsError, load_weights, loading, save_weights, shipped_names
from tests.networks import network_variables

FOLDER = Path(loading.__file__).parent


def test_every_shipped_file_is_in_the_index_with_its_checksum():
    index = json.loads((FOLDER / "index.json").read_text())
    assert {entry["file"] for entry in index.values()} == {path.name for path in FOLDER.glob("*.safetensors")}
    for entry in index.values():
        assert entry["sha256"] == hashlib.sha256((FOLDER / entry["file"]).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_weights_load_and_say_how_they_were_trained(name):
    weights = load_weights(name)
    assert weights.training["seed"] == 0
    assert weights.training["data"]["train"] == "train"
    # Trained: no layer is left at the statistics or, without a norm, at the biases that it starts with.
    norms = weights.model.norm == "batch"
    values = [*_leaves(weights.variables["batch_stats"], "var")] if norms else [*_leaves(weights.variables, "bias")]
    assert values
    assert all(np.any(np.asarray(value) != np.ravel(value)[0]) or value.size == 1 for value in values)


def test_load_without_a_name_gives_the_first():
    assert rpfnet_jax.load().weights.training == load_weights(shipped_names()[0]).training


def test_a_file_with_the_name_of_shipped_weights_is_reached_by_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = shipped_names()[0]
    Path(name).write_text("hello")
    load_weights(name)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_weights(f"./{name}")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(FileNotFoundError, match=rf"no weights at flirr; .*{shipped_names()[0]}"):
        load_weights("flirr")


def test_a_changed_or_missing_file_is_refused(tmp_path, monkeypatch):
    name = shipped_names()[0]
    entry = json.loads((FOLDER / "index.json").read_text())[name]
    save_weights(tmp_path / "another.safetensors", load_weights(name))
    monkeypatch.setattr(loading, "_FOLDER", tmp_path)
    with pytest.raises(WeightsError, match="install rpfnet-jax again"):
        load_weights(name)
    (tmp_path / entry["file"]).write_bytes((FOLDER / entry["file"]).read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="not the file that was shipped"):
        load_weights(name)


def test_a_workdir_is_loaded_from_its_weights_file(tmp_path):
    """The file is written with every checkpoint; a damaged one is named."""
    config = ModelConfig(channels=4, stages=1)
    path = tmp_path / "weights.safetensors"
    save_weights(path, Weights(config, network_variables(config), provenance={"checkpoint": {"step": 3}}))
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    loaded = load_weights(tmp_path)
    assert (loaded.model, loaded.provenance) == (config, {"checkpoint": {"step": 3}})
    chex.assert_trees_all_equal(loaded.variables, network_variables(config))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"weights\.safetensors is not a readable safetensors file"):
        load_weights(tmp_path)


def test_workdirs_without_weights_say_what_to_do(tmp_path):
    with pytest.raises(WeightsError, match=r"not the workdir of a training run: it has no weights\.safetensors"):
        load_weights(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(WeightsError, match="no checkpoint yet"):
        load_weights(tmp_path)
    # As version 0.1 left a run that was stopped before its end.
    (tmp_path / "checkpoints" / "500").mkdir()
    with pytest.raises(WeightsError, match=r"run the same training command again: it resumes .* writes the file") as e:
        load_weights(tmp_path)
    assert "\n" not in str(e.value)


def _leaves(tree, name):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, name)
        elif key == name:
            yield value
