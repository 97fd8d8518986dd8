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
from rpfnet_jax.training import (
    Compute,
    Intervals,
    OptimizerConfig,
    StepConfig,
    TrainingPlan,
    make_networks,
    make_train_step,
)
from tests.networks import random_state
from tests.training.data_parallel_worker import with_gradient

SGD = optax.sgd(1.0)


def smooth(count):
    """Images of different brightness, so that statistics differ from one to the next; (2, count, 24, 24, 1)."""
    generator = np.random.default_rng(0)
    shades = generator.uniform(0.2, 1.0, (2, count, 1, 1, 1))
    return np.uint8(255 * shades * generator.uniform(0, 1, (2, count, 24, 24, 1)))


class Trial:
    """One step of plain descent at rate 1: the gradient is the difference of the parameters."""

    def __init__(self, losses, **fields):
        self.networks = make_networks(ModelConfig(channels=4, stages=1, **fields), losses.auxiliary)
        self.losses = losses
        self.start = jax.device_get(random_state(self.networks, SGD))

    @functools.cache  # noqa: B019 - one object, as long as the tests of this file.
    def program(self, compute, count):
        """Traced and compiled once for all tests: that takes nearly all of their time."""
        image = jax.ShapeDtypeStruct((count, 24, 24, 1), jnp.uint8)
        step = make_train_step(self.networks, self.losses, SGD, compute)
        return step.lower(self.start, image, image).compile()

    def step(self, compute, images, state=None):
        given = jax.tree.map(jnp.array, self.start if state is None else state)
        return jax.device_get(self.program(compute, images.shape[1])(given, *images))

    def gradient(self, compute, images):
        after, _ = self.step(compute, images)
        return jax.tree.map(np.subtract, self.start.params, after.params)


@pytest.fixture(scope="module")
def trial():
    """All modules of the network."""
    return Trial(LossConfig(contrastive=0.0))


@pytest.fixture(scope="module")
def small():
    """The fusion branch alone, with loss terms over the whole batch: what accumulation depends on."""
    return Trial(LossConfig.preset("released", auxiliary=False), cpm=False, residual_prior=False)


def test_the_gradient_of_equal_microbatches_is_that_of_one(small):
    images = smooth(1)
    once, once_terms = small.step(Compute(), images)
    twice, twice_terms = small.step(Compute(accumulate=2), np.concatenate([images, images], axis=1))
    chex.assert_trees_all_close(once.params, twice.params, atol=1e-5)
    chex.assert_trees_all_close(once_terms, twice_terms, rtol=1e-5)


def test_the_gradient_is_the_mean_over_the_patches_of_the_microbatches_gradients(small):
    """As many patches as the last, smaller batch of an epoch may have: not the same number in each microbatch."""
    first, second = 2, 1
    images = smooth(first + second)
    parts = [small.gradient(Compute(), part) for part in (images[:, :first], images[:, first:])]
    mean = jax.tree.map(lambda a, b: (first * a + second * b) / (first + second), *parts)
    accumulated = small.gradient(Compute(accumulate=2), images)
    chex.assert_trees_all_close(accumulated, mean, atol=2e-5)


def test_microbatches_are_normalised_by_themselves(small):
    images = smooth(2)
    whole, accumulated = (small.gradient(Compute(accumulate=count), images) for count in (1, 2))
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), whole, accumulated)
    assert max(jax.tree.leaves(apart)) > 1e-3, "another gradient than that of the whole batch"


def test_running_statistics_are_moved_by_one_microbatch_after_the_other(small):
    images = smooth(2)
    by_hand = small.start
    for part in (images[:, :1], images[:, 1:]):
        moved, _ = small.step(Compute(), part, by_hand)
        by_hand = by_hand.replace(batch_stats=moved.batch_stats)
    accumulated, _ = small.step(Compute(accumulate=2), images)
    chex.assert_trees_all_close(accumulated.batch_stats, by_hand.batch_stats, atol=1e-6)


def test_a_microbatch_that_is_not_finite_skips_the_whole_update(small):
    broken = small.start.replace(params=jax.tree.map(lambda x: np.full_like(x, np.nan), small.start.params))
    after, terms = small.step(Compute(accumulate=2), smooth(2), broken)
    assert (int(after.step), float(terms["skipped"])) == (1, 1.0)
    chex.assert_trees_all_equal(after.batch_stats, small.start.batch_stats)


def test_remat_changes_nothing_but_memory(trial):
    images = smooth(2)
    (plain, plain_terms), (remat, terms) = (trial.step(Compute(remat=on), images) for on in (False, True))
    assert jax.tree.structure(plain) == jax.tree.structure(remat)
    # The parameters lost their gradient, whose rounding errors are those of large sums.
    chex.assert_trees_all_close(plain.params, remat.params, rtol=0, atol=1e-6 * float(terms["grad_norm"]))
    chex.assert_trees_all_close(plain.batch_stats, remat.batch_stats, atol=1e-6)
    chex.assert_trees_all_close(plain_terms, terms, rtol=1e-6)


def test_remat_and_accumulation_take_less_memory():
    """As the compiler sees it; the fusion branch alone, which compiles fastest."""
    model = ModelConfig(channels=8, stages=2, cpm=False, residual_prior=False, norm="none")
    losses = LossConfig(auxiliary=False, contrastive=0.0, lambda2=0.0, intensity=1.0)
    networks = make_networks(model, auxiliary=False)
    state = random_state(networks, SGD)
    image = jax.ShapeDtypeStruct((4, 24, 24, 1), jnp.uint8)

    def temporary(compute):
        program = make_train_step(networks, losses, SGD, compute).lower(state, image, image).compile()
        return program.memory_analysis().temp_size_in_bytes

    plain = temporary(Compute())
    assert temporary(Compute(remat=True)) < 0.7 * plain
    assert temporary(Compute(accumulate=4)) < 0.5 * plain


def test_bfloat16_learns_nearly_the_same_and_keeps_its_state_in_float32(trial):
    images = smooth(2)
    exact, terms = trial.step(Compute(), images)
    rounded, rounded_terms = trial.step(Compute(precision="bfloat16"), images)
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
        ({"precision": "float16"}, r"compute\.precision must be one of float32, tf32, bfloat16"),
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
            step=StepConfig(),
            total_steps=1,
            batch_size=4,
            seed=0,
            intervals=Intervals(),
            monitor="vifp_standard",
            compute=Compute(accumulate=3),
        )
