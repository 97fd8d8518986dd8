"""Checkpoints: round trip, which are kept, what is refused."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import CheckpointError, Checkpoints, create_state, make_networks
from rpfnet_jax.training.checkpoint import differing_fields

CONFIG = {"seed": 0, "model": {"stages": 1}}


@pytest.fixture(scope="module")
def state():
    return create_state(make_networks(ModelConfig(channels=4, stages=1)), optax.adam(1e-3), seed=3)


def at(state, step):
    return state.replace(step=jnp.int32(step))


def test_round_trip_is_bit_equal(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        assert checkpoints.latest_step is None
        checkpoints.save(at(state, 7), {"next_index": 7})
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        restored = checkpoints.restore(state)
    assert restored.data == {"next_index": 7}
    assert int(restored.state.step) == 7
    chex.assert_trees_all_equal(restored.state.params, state.params)
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)


def test_the_latest_two_and_the_best_are_kept(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        for step, score in ((1, 0.1), (2, 0.9), (3, None), (4, 0.5), (5, float("nan")), (6, 0.6)):
            checkpoints.save(at(state, step), {}, {"score": score} if score else None)
        assert (checkpoints.latest_step, checkpoints.best_step) == (6, 2)
    assert {path.name for path in tmp_path.iterdir() if path.name.isdigit()} == {"2", "5", "6"}


def test_without_validation_there_is_no_best(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        checkpoints.save(at(state, 1), {})
        assert checkpoints.best_step is None


def test_saving_a_step_twice_is_harmless(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        checkpoints.save(at(state, 1), {"next_index": 1})
        checkpoints.save(at(state, 1), {"next_index": 1})
        assert checkpoints.latest_step == 1


def test_another_configuration_is_refused_by_field(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        checkpoints.save(at(state, 1), {})
    with (
        Checkpoints(tmp_path, {"seed": 0, "model": {"stages": 2}}, "score") as checkpoints,
        pytest.raises(CheckpointError, match=r"config\.model\.stages: 1 -> 2"),
    ):
        checkpoints.restore(state)


def test_differing_fields_names_every_leaf():
    old, new = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 9}, "e": 0}
    lines = differing_fields(old, new)
    assert [line.split(":")[0].strip() for line in lines] == ["config.b.c", "config.b.d", "config.e"]


def test_fields_that_did_not_exist_yet_are_not_set():
    """Runs from before a field continue: the configurations' new fields are None until somebody sets them."""
    assert differing_fields({"model": {"stages": 3}}, {"model": {"stages": 3, "cpm": None}}) == []
    assert differing_fields({"model": {"stages": 3}}, {"model": {"stages": 3, "cpm": False}}) != []
