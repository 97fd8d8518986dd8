"""Intervals of means."""

import math

import numpy as np
import pytest

from rpfnet_jax.metrics import mean_interval


def test_same_values_same_interval_around_the_mean():
    values = np.random.default_rng(3).normal(5, 2, 200)
    low, high = mean_interval(values)
    assert mean_interval(values) == (low, high) != mean_interval(values, seed=1)
    assert low < values.mean() < high
    # Of a mean of 200 the interval is that of the normal distribution, nearly.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.05)
    assert mean_interval(values, level=0.5)[0] > low


def test_it_is_close_to_that_of_scipy():
    scipy_stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(4).exponential(3, 60)
    other = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000).confidence_interval
    np.testing.assert_allclose(mean_interval(values), other, rtol=0.03)


def test_few_values():
    assert mean_interval([0.3]) == (0.3, 0.3)
    assert mean_interval([0.3, math.nan]) == (0.3, 0.3)
    assert np.isnan(mean_interval([math.nan])).all()
    assert np.isnan(mean_interval([])).all()
