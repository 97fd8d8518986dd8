"""Schedules and the two optimizers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.training import OptimizerConfig, make_optimizer
from rpfnet_jax.training.optimizer import halving_schedule


def rates(config: OptimizerConfig, total: int, network: str = "fusion") -> list[float]:
    """Sizes of the updates of a constant gradient."""
    optimizer = make_optimizer(config, total)
    params = {"fusion": {"w": jnp.zeros(())}, "auxiliary": {"w": jnp.zeros(())}}
    state, sizes = optimizer.init(params), []
    for _ in range(total):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        sizes.append(float(-updates[network]["w"]))
    return sizes


def test_both_networks_have_their_own_schedule():
    config = OptimizerConfig(learning_rate=1.0, halvings=1, auxiliary_halvings=0)
    np.testing.assert_allclose(rates(config, 4), [1, 1, 0.5, 0.5], rtol=1e-4)
    np.testing.assert_allclose(rates(config, 4, "auxiliary"), [1, 1, 1, 1], rtol=1e-4)


def test_paper_schedule_halves_every_20_of_100_epochs():
    epoch = 212
    schedule = halving_schedule(1e-3, 4, 100 * epoch)
    for start, rate in ((0, 1e-3), (20, 5e-4), (40, 2.5e-4), (60, 1.25e-4), (80, 6.25e-5)):
        assert float(schedule(start * epoch)) == pytest.approx(rate)
        assert float(schedule((start + 20) * epoch - 1)) == pytest.approx(rate)


def test_schedule_of_very_short_runs_starts_at_the_full_rate_and_loses_no_halving():
    for total in (1, 2, 3):
        schedule = halving_schedule(1.0, 4, total)
        assert float(schedule(0)) == 1.0
        assert float(schedule(total + 1)) == 1 / 16


def test_cosine_rises_and_falls_to_nothing():
    sizes = rates(OptimizerConfig(1.0, shape="cosine", warmup=0.1), 40)
    np.testing.assert_allclose(sizes[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-3)
    assert all(before > after for before, after in itertools.pairwise(sizes[4:]))
    assert sizes[-1] < 0.01


def test_cosine_without_warmup_starts_at_the_full_rate():
    assert rates(OptimizerConfig(1.0, shape="cosine"), 8)[0] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    "options", [{"learning_rate": float("nan")}, {"learning_rate": 0.0}, {"halvings": -1}, {"auxiliary_halvings": -1}]
)
def test_impossible_optimizers_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        OptimizerConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "step"}, "schedule.shape must be"),
        ({"warmup": 0.1}, "schedule.warmup is a share of a 'cosine' run"),
        ({"shape": "cosine", "warmup": 1.0}, "schedule.warmup"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_impossible_schedules_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**options)
