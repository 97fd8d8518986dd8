"""What `flir_plus` adds to the training: darkened patches, averaged parameters, rates along a cosine."""

import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import (
    DarkeningConfig,
    OptimizerConfig,
    StepConfig,
    create_state,
    make_networks,
    make_optimizer,
    make_train_step,
)
from rpfnet_jax.training.step import darken as darken_eagerly

darken = jax.jit(darken_eagerly, static_argnums=3)
BOTH = DarkeningConfig(vis=1.0, ir=1.0)
MODEL = ModelConfig(channels=4, stages=1, norm="none", base="exposed_sum")
LOSSES = LossConfig(auxiliary=False, intensity=1.0)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).uniform(0.3, 1, size=(2, 64, 16, 16, 1)), jnp.float32)


def test_a_share_of_zero_changes_nothing(images):
    chex.assert_trees_all_equal(darken(*images, jax.random.key(0), DarkeningConfig()), tuple(images))


def test_the_sides_are_darkened_in_their_shares(images):
    for share in (0.25, 1.0):
        ir, vis = darken(*images, jax.random.key(0), DarkeningConfig(vis=share))
        np.testing.assert_array_equal(ir, images[0])
        changed = np.any(vis != images[1], axis=(1, 2, 3))
        # 64 draws: four standard deviations.
        assert abs(changed.mean() - share) <= 4 * (share * (1 - share) / 64) ** 0.5
        assert (vis.mean((1, 2, 3)) < images[1].mean((1, 2, 3)))[changed].all()
        assert 0 <= float(vis.min()) <= float(vis.max()) <= 1


def test_a_patch_is_darkened_by_its_place_in_the_whole_batch_alone(images):
    whole = darken(*images, jax.random.key(3), BOTH)
    half = darken(*images[:, 32:], jax.random.key(3), BOTH, first=32)
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[32:], whole), half)


def test_steps_darken_differently_and_runs_alike(images):
    first, same = (darken(*images, jax.random.key(1), BOTH) for _ in range(2))
    chex.assert_trees_all_equal(first, same)
    assert not np.array_equal(first[1], darken(*images, jax.random.key(2), BOTH)[1])


@pytest.fixture(scope="module")
def run(cheap_compilation):
    """Trains a few steps with one configuration of the step; returns each step's state."""
    optimizer = make_optimizer(OptimizerConfig(), 10)
    networks = make_networks(MODEL, auxiliary=False)

    def run(config: StepConfig, steps: int) -> list:
        step = make_train_step(networks, LOSSES, optimizer, config=config)
        state = create_state(networks, optimizer, 0, config.average > 0)
        ir, vis = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 1), dtype=np.uint8)
        states = [jax.tree.map(np.array, state)]
        for _ in range(steps):
            state, terms = step(state, ir, vis)
            assert not terms["skipped"]
            states.append(jax.tree.map(np.array, state))
        return states

    return run


def test_the_average_follows_the_parameters_and_is_what_is_used(run):
    states = run(StepConfig(average=0.5), 3)
    expected = states[0].params["fusion"]
    for number, state in enumerate(states[1:]):
        decay = min(0.5, (1 + number) / (10 + number))
        expected = jax.tree.map(lambda a, new, d=decay: d * a + (1 - d) * new, expected, state.params["fusion"])
        chex.assert_trees_all_close(state.average, expected, atol=1e-6)
        chex.assert_trees_all_equal(state.variables()["params"], state.average)
    last = states[-1]
    assert not np.array_equal(last.average["head"]["out"]["kernel"], last.params["fusion"]["head"]["out"]["kernel"])


def test_without_an_average_there_is_nothing_of_it_and_the_rest_is_the_same(run):
    plain, averaged = run(StepConfig(), 2)[-1], run(StepConfig(average=0.9), 2)[-1]
    assert plain.average == {}
    chex.assert_trees_all_equal(plain.params, averaged.params)


def test_darkening_changes_what_is_learned_and_its_seed_decides_how(run):
    config = StepConfig(darkening=BOTH, seed=1)
    first, same, other = (run(c, 2)[-1] for c in (config, config, dataclasses.replace(config, seed=2)))
    chex.assert_trees_all_equal(first, same)
    # Not after one step: Adam's first update has the size of the rate, whatever the gradient.
    kernels = [state.params["fusion"]["head"]["out"]["kernel"] for state in (first, other)]
    assert not np.array_equal(*kernels)


def rates(config: OptimizerConfig, total: int) -> list[float]:
    optimizer = make_optimizer(config, total)
    params = {"fusion": {"w": jnp.zeros(())}}
    state, sizes = optimizer.init(params), []
    for _ in range(total):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        sizes.append(float(-updates["fusion"]["w"]))
    return sizes


def test_cosine_rises_and_falls_to_nothing():
    sizes = rates(OptimizerConfig(1.0, shape="cosine", warmup=0.1), 40)
    np.testing.assert_allclose(sizes[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-3)
    assert all(before > after for before, after in itertools.pairwise(sizes[4:]))
    assert sizes[-1] < 0.01


def test_cosine_without_warmup_starts_at_the_full_rate():
    assert rates(OptimizerConfig(1.0, shape="cosine"), 8)[0] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimizerConfig(shape="step"), "schedule.shape must be"),
        (lambda: OptimizerConfig(warmup=0.1), "schedule.warmup is a share of a 'cosine' run"),
        (lambda: OptimizerConfig(shape="cosine", warmup=1.0), "schedule.warmup"),
        (lambda: DarkeningConfig(vis=1.5), "darkening.vis is a share"),
        (lambda: StepConfig(average=1.0), "average must be a decay"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_impossible_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
