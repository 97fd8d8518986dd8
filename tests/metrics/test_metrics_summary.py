"""Averages over a data set."""

import math

import pytest

from rpfnet_jax import metrics


def test_mean_std_and_count():
    table = metrics.summarise([{"en": 1.0, "sf": 5.0}, {"en": 4.0, "sf": 5.0}])
    assert list(table) == ["en", "sf"]
    assert table["en"] == metrics.Summary(mean=2.5, std=1.5, count=2)
    assert table["sf"] == metrics.Summary(mean=5.0, std=0.0, count=2)


def test_nan_entries_are_left_out():
    rows = [{"dark_lift": value, "never": math.nan} for value in (0.1, math.nan, 0.3)]
    table = metrics.summarise(rows)
    assert table["dark_lift"].mean == pytest.approx(0.2)
    assert table["dark_lift"].std == pytest.approx(0.1)
    assert table["dark_lift"].count == 2
    assert math.isnan(table["never"].mean)
    assert math.isnan(table["never"].std)
    assert table["never"].count == 0


def test_rows_may_come_from_a_generator_and_may_be_none():
    assert metrics.summarise({"en": float(k)} for k in range(3))["en"].mean == 1
    assert metrics.summarise([]) == {}


def test_rows_with_other_columns_are_refused():
    with pytest.raises(ValueError, match="row 1"):
        metrics.summarise([{"en": 1.0}, {"en": 1.0, "sf": 2.0}])
