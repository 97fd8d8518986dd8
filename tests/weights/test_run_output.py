"""The network that a run's configuration and variables give."""

import json

import chex
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scipy.special import logit

from rpfnet_jax.model import ModelConfig, RPFNet
from rpfnet_jax.recipes import base
from rpfnet_jax.weights import FusionDefaults, RunOutput
from tests.networks import network_variables

CONFIG = ModelConfig(channels=4, stages=1)


def record_of(**options):
    config = base.get_config()
    config.model.channels = 4
    config.model.stages = 1
    config.update_from_flattened_dict(options)
    return json.loads(config.to_json())


@pytest.fixture(scope="module")
def variables():
    return network_variables(CONFIG)


def test_contrast_multiplies_the_logits_and_nothing_else(variables):
    pair = np.random.default_rng(0).uniform(size=(2, 1, 20, 24, 1)).astype(np.float32)
    plain, raised = (RunOutput(record_of(contrast=contrast)).weights(variables) for contrast in (None, 1.5))
    assert plain.model == raised.model == CONFIG
    network = jax.jit(RPFNet(CONFIG).apply)
    first, second = (np.asarray(network(w.variables, *pair)) for w in (plain, raised))
    chex.assert_trees_all_equal(plain.variables, variables)
    assert first.std() > 1e-3
    np.testing.assert_allclose(logit(second), 1.5 * logit(first), rtol=1e-4, atol=1e-6)
    assert raised.training["contrast"] == 1.5


@pytest.mark.parametrize("value", [None, "missing"])
def test_fields_that_old_records_lack_or_hold_as_none_keep_their_values(variables, value):
    """In records of version 0.1, None stands for the reading's value; records from before a field do not have it."""
    record = record_of()
    old = {"reading": "paper", "channels": 4, "stages": 1, "share_stages": True}
    names = {"gate_kernel", "attention", "merge", "spectral_input", "fusion_block", "cpm", "residual_prior"}
    fields = dict.fromkeys([*names, "norm", "base", "details"])
    record = {**record, "model": old if value == "missing" else {**fields, **old}}
    for name in ("contrast", "average"):
        record[name] = None
        if value == "missing":
            del record[name]
    weights = RunOutput(record).weights(variables)
    assert weights.model == CONFIG
    assert weights.defaults == FusionDefaults("image", 0.1, "full")
    assert RunOutput({**record, "fusion": {}}).weights(variables).defaults == FusionDefaults("image", 0.1, "full")
    chex.assert_trees_all_equal(weights.variables, variables)
    released = {**record, "model": {**record["model"], "reading": "released"}}
    assert RunOutput(released).weights(variables).model == ModelConfig.preset("released", channels=4, stages=1)


def test_provenance_is_kept_and_only_the_last_layer_is_changed(variables):
    weights = RunOutput(record_of(contrast=2)).weights(variables, {"checkpoint": {"step": 3}})
    assert weights.provenance == {"checkpoint": {"step": 3}}
    before, after = (flatten_dict(tree, sep="/") for tree in (variables, weights.variables))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"params/head/out/kernel", "params/head/out/bias"}


@pytest.mark.parametrize("contrast", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_contrasts_are_refused(contrast):
    with pytest.raises(ValueError, match="contrast must be above 0"):
        RunOutput({**record_of(), "contrast": contrast})


def test_a_network_whose_base_decides_has_no_contrast_of_its_own():
    with pytest.raises(ValueError, match=r"contrast must be None where model\.base is not 'none'"):
        RunOutput(record_of(**{"contrast": 1.1, "model.base": "exposed_sum"}))
