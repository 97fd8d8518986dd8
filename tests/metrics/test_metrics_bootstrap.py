"""Intervals of means and of paired differences: against SciPy and the normal distribution, and at their edges."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from rpfnet_jax.metrics import mean_interval, paired_bootstrap

RNG = np.random.default_rng(0)
A = RNG.normal(0.3, 1, 60)
B = RNG.normal(0, 1, 60)


def test_agrees_with_scipy():
    ours = paired_bootstrap(A, B)
    theirs = bootstrap((A - B,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert ours.difference == pytest.approx(A.mean() - B.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours.images == 60


def test_is_the_same_each_time_and_another_with_another_seed():
    assert paired_bootstrap(A, B, seed=3) == paired_bootstrap(A, B, seed=3)
    assert paired_bootstrap(A, B, seed=3) != paired_bootstrap(A, B, seed=4)


def test_drawing_in_pieces_changes_nothing_that_matters(monkeypatch):
    whole = paired_bootstrap(A, B)
    monkeypatch.setattr("rpfnet_jax.metrics.comparison._CHUNK", 1000)
    assert paired_bootstrap(A, B) == pytest.approx(whole, abs=1e-12)


def test_pairs_are_kept_together():
    """A constant lead on very different images is certain; resampling A and B apart would not see it."""
    images = np.linspace(0, 100, 20)
    found = paired_bootstrap(images + 0.1, images)
    assert (found.low, found.high, found.share_better) == pytest.approx((0.1, 0.1, 1.0))


def test_direction_and_exchange():
    forth, back = paired_bootstrap(A, B), paired_bootstrap(B, A)
    assert forth.difference == -back.difference
    assert forth.share_better == pytest.approx(1 - back.share_better)
    assert paired_bootstrap(A, B, higher_is_better=False).share_better == pytest.approx(1 - forth.share_better)


def test_equal_methods_cannot_be_told_apart():
    assert paired_bootstrap(A, A) == (0.0, 0.0, 0.0, 0.5, 60)


def test_images_without_a_value_do_not_count():
    nan = float("nan")
    assert paired_bootstrap(np.array([1, nan, 3]), np.array([0, 5, nan])) == (1.0, 1.0, 1.0, 1.0, 1)
    nothing = paired_bootstrap(np.array([nan]), np.ones(1))
    assert nothing.images == 0
    assert np.isnan(nothing[:4]).all()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="got 1 and 2 values"):
        paired_bootstrap(np.ones(1), np.ones(2))
    with pytest.raises(ValueError, match="resamples"):
        paired_bootstrap(np.ones(1), np.ones(1), resamples=0)


def test_same_values_same_interval_around_the_mean():
    values = np.random.default_rng(3).normal(5, 2, 200)
    low, high = mean_interval(values)
    assert mean_interval(values) == (low, high) != mean_interval(values, seed=1)
    assert low < values.mean() < high
    # Of a mean of 200 the interval is that of the normal distribution, nearly.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.05)
    assert mean_interval(values, level=0.5)[0] > low


def test_it_is_close_to_that_of_scipy():
    values = np.random.default_rng(4).exponential(3, 60)
    other = bootstrap((values,), np.mean, method="percentile", n_resamples=5000).confidence_interval
    np.testing.assert_allclose(mean_interval(values), other, rtol=0.03)


def test_few_values():
    assert mean_interval([0.3]) == (0.3, 0.3)
    assert mean_interval([0.3, math.nan]) == (0.3, 0.3)
    assert np.isnan(mean_interval([math.nan])).all()
    assert np.isnan(mean_interval([])).all()
