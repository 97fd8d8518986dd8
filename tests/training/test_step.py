"""State, optimizer and train step: labels, schedules, one update."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import OptimizerConfig, create_state, make_networks, make_optimizer, make_train_step
from rpfnet_jax.training.optimizer import halving_schedule

TINY = {"channels": 4, "stages": 2}


@pytest.fixture(scope="module", params=["paper", "released"])
def trained(request, cheap_compilation):
    """Networks, the state before and after one step, and the step's terms."""
    networks = make_networks(ModelConfig.preset(request.param, **TINY))
    optimizer = make_optimizer(OptimizerConfig(), total_steps=10)
    state = create_state(networks, optimizer, seed=0)
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


def test_both_networks_have_their_own_schedule():
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1.0, halvings=1, auxiliary_halvings=0), total_steps=4)
    params = {"fusion": {"w": jnp.zeros(())}, "auxiliary": {"w": jnp.zeros(())}}
    state, sizes = optimizer.init(params), []
    for _ in range(4):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        sizes.append((float(-updates["fusion"]["w"]), float(-updates["auxiliary"]["w"])))
    np.testing.assert_allclose(sizes, [(1, 1), (1, 1), (0.5, 1), (0.5, 1)], rtol=1e-4)


def test_paper_schedule_halves_every_20_of_100_epochs():
    epoch = 212
    schedule = halving_schedule(1e-3, 4, 100 * epoch)
    for start, rate in ((0, 1e-3), (20, 5e-4), (40, 2.5e-4), (60, 1.25e-4), (80, 6.25e-5)):
        assert float(schedule(start * epoch)) == pytest.approx(rate)
        assert float(schedule((start + 20) * epoch - 1)) == pytest.approx(rate)


def test_labels_cover_every_parameter():
    networks = make_networks(ModelConfig(**TINY))
    optimizer = make_optimizer(OptimizerConfig(), 10)
    state = create_state(networks, optimizer, 0)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, state.params), state.opt_state, state.params)
    sizes = jax.tree.map(lambda u: float(jnp.max(jnp.abs(u + 1e-3))), updates)
    assert max(jax.tree.leaves(sizes)) < 1e-5


def test_seed_determines_the_initial_state():
    networks, optimizer = make_networks(ModelConfig(**TINY)), optax.sgd(1.0)
    first, same, other = (create_state(networks, optimizer, seed) for seed in (1, 1, 2))
    chex.assert_trees_all_equal(first.params, same.params)
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, first.params, other.params)))


def test_schedule_of_very_short_runs_starts_at_the_full_rate_and_loses_no_halving():
    for total in (1, 2, 3):
        schedule = halving_schedule(1.0, 4, total)
        assert float(schedule(0)) == 1.0
        assert float(schedule(total + 1)) == 1 / 16


@pytest.mark.parametrize(
    "options", [{"learning_rate": float("nan")}, {"learning_rate": 0.0}, {"halvings": -1}, {"auxiliary_halvings": -1}]
)
def test_impossible_optimizers_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        OptimizerConfig(**options)


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
