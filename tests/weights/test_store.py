"""Weights files: round trip, and what is refused."""

import json

import chex
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors import safe_open
from safetensors.numpy import save_file

from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights import FusionDefaults, Weights, WeightsError, load_weights, save_weights
from tests.networks import network_variables


@pytest.fixture(scope="module")
def weights():
    config = ModelConfig.preset("released", channels=4, stages=2)
    defaults = FusionDefaults("adaptive", 0.2, "studio")
    return Weights(config, network_variables(config), defaults, {"seed": 3}, {"calibrated": {"patches": 4}})


def test_round_trip_is_bit_equal(weights, tmp_path):
    path = tmp_path / "new folder" / "w.safetensors"
    save_weights(path, weights)
    loaded = load_weights(path)
    assert (loaded.model, loaded.defaults) == (weights.model, weights.defaults)
    assert (loaded.training, loaded.provenance) == (weights.training, weights.provenance)
    chex.assert_trees_all_equal(loaded.variables, weights.variables)
    assert [file.name for file in path.parent.iterdir()] == ["w.safetensors"]


def test_files_from_before_the_fields_of_the_ablations_are_read(weights, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, weights)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    model = json.loads(metadata["model"])
    for name in ("fusion_block", "cpm", "residual_prior"):
        del model[name]
    tensors = {name: np.asarray(value) for name, value in flatten_dict(weights.variables, sep="/").items()}
    save_file(tensors, path, {**metadata, "model": json.dumps(model)})
    loaded = load_weights(path)
    assert loaded.model == weights.model
    chex.assert_trees_all_equal(loaded.variables, weights.variables)


def test_weights_of_a_network_without_some_modules_round_trip(tmp_path):
    config = ModelConfig(channels=4, stages=1, fusion_block="transformer", cpm=False, residual_prior=False)
    variables = network_variables(config)
    path = tmp_path / "w.safetensors"
    save_weights(path, Weights(config, variables))
    loaded = load_weights(path)
    assert loaded.model == config
    chex.assert_trees_all_equal(loaded.variables, variables)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nothing"):
        load_weights(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02cos\nsystem\n"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.safetensors is .*not a readable safetensors file"):
        load_weights(path)


def test_a_truncated_file_is_refused(weights, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, weights)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="not a readable"):
        load_weights(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "does not hold the authors' network: missing .*decoder"),
        ({"format": "rpfnet_jax", "format_version": "99"}, "format version 99"),
        ({"format": "rpfnet_jax", "format_version": "1"}, "unusable metadata"),
        *(
            ({"format": "rpfnet_jax", "format_version": "1", "defaults": "{}", "training": "{}", **changed}, "unusable")
            for changed in (
                {"model": '{"depth": 3}'},
                {"model": "[" * 100_000},
                {"model": '{"channels": 4.0}'},
                {"model": '{"stages": 3.0}'},
                {"model": '{"share_stages": []}'},
                {"model": '{"channels": 4' + "0" * 30 + "}"},
                {"model": "{}", "training": "[1]"},
                {"model": "{}", "provenance": "3"},
            )
        ),
    ],
)
def test_foreign_metadata_are_refused(tmp_path, metadata, message):
    path = tmp_path / "w.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path, metadata)
    with pytest.raises(WeightsError, match=message):
        load_weights(path)


def test_tensors_that_do_not_fit_the_model_are_refused_by_name(weights, tmp_path):
    path = tmp_path / "w.safetensors"
    stem = weights.variables["params"]["residual_stem"]
    lacking = {**weights.variables["params"], "residual_stem": {"norm": stem["norm"]}}
    save_weights(path, Weights(weights.model, {**weights.variables, "params": lacking}))
    with pytest.raises(WeightsError, match=r"missing.*params/residual_stem/conv/kernel"):
        load_weights(path)
    save_weights(path, Weights(ModelConfig.preset("released", channels=8, stages=2), weights.variables))
    with pytest.raises(WeightsError, match=r"stem/norm/mean is \(1, 4\) instead of \(1, 8\)"):
        load_weights(path)


def test_a_header_of_any_length_is_no_pickle(weights, tmp_path):
    """The file begins with the header's length, whose lowest byte may be the one that pickles begin with."""
    path, padding = tmp_path / "weights.safetensors", 0
    while not path.exists() or path.read_bytes()[0] != 0x80:
        save_weights(path, Weights(weights.model, weights.variables, weights.defaults, {"note": "x" * padding}))
        padding += 8
        assert padding <= 512
    chex.assert_trees_all_equal(load_weights(path).variables, weights.variables)
