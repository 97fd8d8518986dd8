"""How an update is computed: accumulation, rematerialisation, precision."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import Compute, TrainingPlan, create_state, make_networks, make_train_step
from rpfnet_jax.training.optimizer import OptimizerConfig
from tests.training.data_parallel_worker import with_gradient

pytestmark = pytest.mark.usefixtures("cheap_compilation")
SGD = optax.sgd(1.0)


def smooth(count, seed=0):
    """Pictures of different brightness, so that statistics differ from one to the next; (2, count, 24, 24, 1)."""
    generator = np.random.default_rng(seed)
    shades = generator.uniform(0.2, 1.0, (2, count, 1, 1, 1))
    return np.uint8(255 * shades * generator.uniform(0, 1, (2, count, 24, 24, 1)))


class Trial:
    """One step of plain descent at rate 1: the gradient is what the parameters lose."""

    def __init__(self, reading):
        networks, losses = make_networks(ModelConfig.preset(reading, channels=4, stages=2)), LossConfig.preset(reading)
        self.start = jax.device_get(create_state(networks, SGD, seed=0))
        # Traced and compiled once for all tests: that takes nearly all of their time.
        self.compiled = functools.cache(lambda compute: make_train_step(networks, losses, SGD, compute))

    def step(self, compute, pictures, state=None):
        given = jax.tree.map(jnp.array, self.start if state is None else state)
        return jax.device_get(self.compiled(compute)(given, *pictures))

    def gradient(self, compute, pictures):
        after, _ = self.step(compute, pictures)
        return jax.tree.map(np.subtract, self.start.params, after.params)


@pytest.fixture(scope="module", params=["paper", "released"])
def trial(request, cheap_compilation):
    return Trial(request.param)


def test_the_gradient_of_equal_microbatches_is_that_of_one(trial):
    pictures = smooth(2)
    once, once_terms = trial.step(Compute(), pictures)
    twice, twice_terms = trial.step(Compute(accumulate=2), np.concatenate([pictures, pictures], axis=1))
    chex.assert_trees_all_close(once.params, twice.params, atol=1e-5)
    chex.assert_trees_all_close(once_terms, twice_terms, rtol=1e-5)


def test_the_gradient_is_the_mean_over_the_patches_of_the_microbatches_gradients(trial):
    """As many patches as the last, smaller batch of an epoch may have: not the same number in each microbatch."""
    first, second = 2, 1
    pictures = smooth(first + second)
    parts = [trial.gradient(Compute(), part) for part in (pictures[:, :first], pictures[:, first:])]
    mean = jax.tree.map(lambda a, b: (first * a + second * b) / (first + second), *parts)
    accumulated = trial.gradient(Compute(accumulate=2), pictures)
    chex.assert_trees_all_close(accumulated, mean, atol=2e-5)
    whole = trial.gradient(Compute(), pictures)
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), whole, accumulated)
    assert max(jax.tree.leaves(apart)) > 1e-3, "a microbatch normalises by itself, so this is another gradient"


def test_running_statistics_are_moved_by_one_microbatch_after_the_other(trial):
    pictures = smooth(4)
    by_hand = trial.start
    for part in (pictures[:, :2], pictures[:, 2:]):
        moved, _ = trial.step(Compute(), part, by_hand)
        by_hand = by_hand.replace(batch_stats=moved.batch_stats)
    accumulated, _ = trial.step(Compute(accumulate=2), pictures)
    chex.assert_trees_all_close(accumulated.batch_stats, by_hand.batch_stats, atol=1e-6)


def test_a_microbatch_that_is_not_finite_skips_the_whole_update(trial):
    broken = trial.start.replace(params=jax.tree.map(lambda x: np.full_like(x, np.nan), trial.start.params))
    after, terms = trial.step(Compute(accumulate=2), smooth(4), broken)
    assert (int(after.step), float(terms["skipped"])) == (1, 1.0)
    chex.assert_trees_all_equal(after.batch_stats, trial.start.batch_stats)


def test_remat_changes_nothing_but_memory(trial):
    pictures = smooth(2)
    (plain, plain_terms), (remat, terms) = (trial.step(Compute(remat=on), pictures) for on in (False, True))
    assert jax.tree.structure(plain) == jax.tree.structure(remat)
    # The parameters lost their gradient, whose rounding errors are those of large sums.
    chex.assert_trees_all_close(plain.params, remat.params, rtol=0, atol=1e-6 * float(terms["grad_norm"]))
    chex.assert_trees_all_close(plain.batch_stats, remat.batch_stats, atol=1e-6)
    chex.assert_trees_all_close(plain_terms, terms, rtol=1e-6)


def test_remat_and_accumulation_take_less_memory():
    """As the compiler sees it."""
    networks, losses = make_networks(ModelConfig(channels=8, stages=2)), LossConfig()
    state, pictures = create_state(networks, SGD, seed=0), np.zeros((2, 4, 24, 24, 1), np.uint8)

    def temporary(compute):
        program = make_train_step(networks, losses, SGD, compute).lower(state, *pictures).compile()
        return program.memory_analysis().temp_size_in_bytes

    plain = temporary(Compute())
    assert temporary(Compute(remat=True)) < 0.7 * plain
    assert temporary(Compute(accumulate=4)) < 0.5 * plain


def test_bfloat16_learns_nearly_the_same_and_keeps_its_state_in_float32(trial):
    pictures = smooth(2)
    exact, terms = trial.step(Compute(), pictures)
    rounded, rounded_terms = trial.step(Compute(precision="bfloat16"), pictures)
    assert {leaf.dtype for leaf in jax.tree.leaves((rounded.params, rounded.batch_stats, rounded_terms))} == {
        np.dtype("float32")
    }
    assert float(rounded_terms["total"]) == pytest.approx(float(terms["total"]), rel=0.01)
    assert float(rounded_terms["total"]) != float(terms["total"])
    old, before, after = (with_gradient(tree) for tree in (trial.start.params, exact.params, rounded.params))
    moved, same = (np.concatenate([(new[n] - old[n]).ravel() for n in old]) for new in (before, after))
    assert np.dot(moved, same) / np.linalg.norm(moved) / np.linalg.norm(same) > 0.98


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate": 0}, r"compute\.accumulate must be a positive number"),
        ({"accumulate": True}, r"compute\.accumulate must be a positive number"),
        ({"remat": 1}, r"compute\.remat must be bool"),
        ({"precision": "float16"}, r"compute\.precision must be one of float32, bfloat16"),
    ],
)
def test_impossible_fields_are_refused(fields, message, as_users_run_it):
    with pytest.raises(ValueError, match=message):
        Compute(**fields)


def test_a_batch_that_accumulate_does_not_divide_is_refused_before_training():
    with pytest.raises(ValueError, match=r"compute\.accumulate is 3, which does not divide the batch_size of 4"):
        TrainingPlan(
            model=ModelConfig(),
            losses=LossConfig(),
            optimizer=OptimizerConfig(),
            total_steps=1,
            batch_size=4,
            seed=0,
            log_every=1,
            panels_every=0,
            validate_every=0,
            checkpoint_every=0,
            monitor="vifp_standard",
            compute=Compute(accumulate=3),
        )
