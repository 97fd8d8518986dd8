"""State and train step: one update, darkened patches, averaged parameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from tests.networks import random_state

TINY = {"channels": 4, "stages": 1}


@pytest.fixture(scope="module", params=["paper", "released"])
def trained(request):
    """Networks, the state before and after one step, and the step's terms."""
    networks = make_networks(ModelConfig.preset(request.param, **TINY))
    optimizer = make_optimizer(OptimizerConfig(), total_steps=10)
    state = random_state(networks, optimizer)
    before = jax.tree.map(np.array, state)
    step = make_train_step(networks, LossConfig.preset(request.param), optimizer)
    ir, vis = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 24, 1), dtype=np.uint8)
    after, terms = step(state, ir, vis)
    return before, after, terms


def test_step_counts_and_reports_finite_scalars(trained):
    before, after, terms = trained
    assert (int(before.step), int(after.step)) == (0, 1)
    assert set(terms) == {
        "total",
        "contrastive",
        "structure",
        "saliency_gradient",
        "saliency_region",
        "grad_norm",
        "skipped",
    }
    for value in terms.values():
        assert value.shape == ()
        assert np.isfinite(value)


def test_first_update_of_adam_is_the_learning_rate_where_there_is_a_gradient(trained):
    before, after, _ = trained
    for network in ("fusion", "auxiliary"):
        kernel = "head" if network == "auxiliary" else "residual_stem"
        old, new = before.params[network][kernel], after.params[network][kernel]
        moved = [abs(float(d)) for d in jax.tree.leaves(jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), old, new))]
        assert max(moved) == pytest.approx(1e-3, rel=0.01)


def test_running_statistics_of_every_used_layer_move(trained):
    before, after, _ = trained
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.batch_stats, after.batch_stats)
    still = [jax.tree_util.keystr(path) for path, value in jax.tree.leaves_with_path(moved) if not value]
    # Only the released reading's unused attention keeps its initial statistics: mean and variance of one layer.
    assert len(still) == (2 if "merge" in before.params["fusion"]["stage"]["rpm"] else 0)
    assert all("spatial_attention" in path for path in still)


def test_labels_cover_every_parameter():
    networks = make_networks(ModelConfig(**TINY))
    optimizer = make_optimizer(OptimizerConfig(), 10)
    state = random_state(networks, optimizer)
    gradients = jax.tree.map(np.ones_like, state.params)
    updates, _ = jax.jit(optimizer.update)(gradients, state.opt_state, state.params)
    sizes = jax.tree.map(lambda u: np.max(np.abs(u + 1e-3)), updates)
    assert max(jax.tree.leaves(sizes)) < 1e-5


def test_seed_determines_the_initial_state():
    networks, optimizer = make_networks(ModelConfig(**TINY)), optax.sgd(1.0)
    first, same, other = (create_state(networks, optimizer, seed) for seed in (1, 1, 2))
    chex.assert_trees_all_equal(first.params, same.params)
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, first.params, other.params)))


def test_a_decoder_without_residual_features_is_refused():
    config = ModelConfig(channels=4, stages=1, cpm=False, residual_prior=False)
    with pytest.raises(ValueError, match=r"loss\.auxiliary must be False where model\.residual_prior is"):
        make_networks(config)
    assert make_networks(config, auxiliary=False).auxiliary is None


def test_without_a_decoder_nothing_of_it_is_in_the_state():
    optimizer = make_optimizer(OptimizerConfig(), 10)
    config = ModelConfig(channels=4, stages=1)
    alone, both = (create_state(make_networks(config, auxiliary), optimizer, 0) for auxiliary in (False, True))
    assert set(alone.params) == set(alone.batch_stats) == {"fusion"}
    chex.assert_trees_all_equal(alone.params["fusion"], both.params["fusion"])
    size = sum(leaf.size for leaf in jax.tree.leaves(alone.params))
    # Adam keeps two values of each parameter; a few counters beside.
    assert 2 * size <= sum(leaf.size for leaf in jax.tree.leaves(alone.opt_state)) < 2 * size + 8


darken = jax.jit(darken_eagerly, static_argnums=3)
BOTH = DarkeningConfig(vis=1.0, ir=1.0)


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
def run():
    """Trains a few steps of a network that compiles fast, with one configuration of the step; returns each state."""
    optimizer = make_optimizer(OptimizerConfig(), 10)
    networks = make_networks(ModelConfig(**TINY, norm="none", cpm=False, residual_prior=False), auxiliary=False)
    losses = LossConfig(auxiliary=False, contrastive=0.0, lambda2=0.0, intensity=1.0)
    averaged, plain = (random_state(networks, optimizer, average) for average in (True, False))

    def run(config: StepConfig, steps: int) -> list:
        step = make_train_step(networks, losses, optimizer, config=config)
        states = [jax.tree.map(np.array, averaged if config.average else plain)]
        ir, vis = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 1), dtype=np.uint8)
        for _ in range(steps):
            state, terms = step(jax.tree.map(jnp.array, states[-1]), ir, vis)
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
    plain, averaged = run(StepConfig(), 2)[-1], run(StepConfig(average=0.5), 2)[-1]
    assert plain.average == {}
    chex.assert_trees_all_equal(plain.params, averaged.params)


def test_darkening_changes_what_is_learned_and_its_seed_decides_how(run):
    config = StepConfig(darkening=BOTH, seed=1)
    first, same, other = (run(c, 2)[-1] for c in (config, config, StepConfig(darkening=BOTH, seed=2)))
    chex.assert_trees_all_equal(first, same)
    # Not after one step: Adam's first update has the size of the rate, whatever the gradient.
    kernels = [state.params["fusion"]["head"]["out"]["kernel"] for state in (first, other)]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DarkeningConfig(vis=1.5), "darkening.vis is a share"),
        (lambda: StepConfig(average=1.0), "average must be a decay"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_impossible_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
