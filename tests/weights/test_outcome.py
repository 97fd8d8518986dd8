"""What a configuration makes of its run's variables."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logit

from rpfnet_jax.model import ModelConfig, RPFNet, init_variables
from rpfnet_jax.recipes import base
from rpfnet_jax.weights import RunOutput


def record_of(**options):
    config = base.get_config()
    config.model.channels = 4
    config.model.stages = 1
    config.update_from_flattened_dict(options)
    return json.loads(config.to_json())


@pytest.fixture(scope="module")
def pair():
    images = np.random.default_rng(0).uniform(size=(2, 1, 20, 24, 1)).astype(np.float32)
    return images[0], images[1]


@pytest.fixture(scope="module")
def variables(pair):
    return init_variables(RPFNet(ModelConfig(channels=4, stages=1)), jax.random.key(0), *map(jnp.asarray, pair))


def test_contrast_multiplies_the_logits_and_nothing_else(variables, pair):
    plain, raised = (RunOutput(record_of(contrast=contrast)).weights(variables) for contrast in (None, 1.5))
    first, second = (np.asarray(RPFNet(w.model).apply(w.variables, *pair)) for w in (plain, raised))
    chex.assert_trees_all_equal(plain.variables, variables)
    assert first.std() > 1e-3
    np.testing.assert_allclose(logit(second), 1.5 * logit(first), rtol=1e-4, atol=1e-6)
    assert raised.training["contrast"] == 1.5


def test_the_record_of_a_run_from_before_this_field_is_read(variables):
    record = record_of()
    del record["contrast"]
    chex.assert_trees_all_equal(RunOutput(record).weights(variables).variables, variables)


@pytest.mark.parametrize("contrast", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_contrasts_are_refused(contrast):
    with pytest.raises(ValueError, match="contrast must be above 0"):
        RunOutput({**record_of(), "contrast": contrast})


def test_a_network_whose_base_decides_has_no_contrast_of_its_own():
    with pytest.raises(ValueError, match=r"contrast must be None where model\.base is not 'none'"):
        RunOutput(record_of(**{"contrast": 1.1, "model.base": "exposed_sum"}))
