"""From images to methods: averages, intervals of means and of paired differences, and ranks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpfnet_jax.metrics import Summary, mean_interval, paired_bootstrap, rank_of_ranks, summarise

RNG = np.random.default_rng(0)
A = RNG.normal(0.3, 1, 60)
B = RNG.normal(0, 1, 60)


def test_mean_std_and_count():
    table = summarise([{"en": 1.0, "sf": 5.0}, {"en": 4.0, "sf": 5.0}])
    assert list(table) == ["en", "sf"]
    assert table["en"] == Summary(mean=2.5, std=1.5, count=2)
    assert table["sf"] == Summary(mean=5.0, std=0.0, count=2)


def test_nan_entries_are_left_out():
    table = summarise([{"dark_lift": value, "never": math.nan} for value in (0.1, math.nan, 0.3)])
    assert table["dark_lift"].mean == pytest.approx(0.2)
    assert table["dark_lift"].std == pytest.approx(0.1)
    assert table["dark_lift"].count == 2
    assert math.isnan(table["never"].mean)
    assert math.isnan(table["never"].std)
    assert table["never"].count == 0


def test_rows_may_come_from_a_generator_and_may_be_none():
    assert summarise({"en": float(k)} for k in range(3))["en"].mean == 1
    assert summarise([]) == {}


def test_rows_with_other_columns_are_refused():
    with pytest.raises(ValueError, match="row 1"):
        summarise([{"en": 1.0}, {"en": 1.0, "sf": 2.0}])


@pytest.mark.parametrize("values", [A - B, np.random.default_rng(4).exponential(3, 60)], ids=["normal", "skewed"])
def test_intervals_are_those_of_a_direct_bootstrap(values):
    draws = np.random.default_rng(1).choice(values, (20_000, len(values)))
    expected = pytest.approx(np.percentile(draws.mean(axis=1), (2.5, 97.5)), rel=0.03, abs=0.02)
    assert mean_interval(values) == expected
    paired = paired_bootstrap(values, np.zeros(60))
    assert (paired.low, paired.high) == expected
    assert paired.difference == pytest.approx(values.mean())
    assert paired.images == 60


def test_same_values_and_seed_give_the_same_interval():
    values = np.random.default_rng(3).normal(5, 2, 200)
    low, high = mean_interval(values)
    assert mean_interval(values) == (low, high) != mean_interval(values, seed=1)
    assert low < values.mean() < high
    # The interval of a mean of 200 values is nearly that of the normal distribution.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.05)
    assert mean_interval(values, level=0.5)[0] > low
    assert paired_bootstrap(A, B, seed=3) == paired_bootstrap(A, B, seed=3) != paired_bootstrap(A, B, seed=4)


def test_drawing_in_batches_does_not_change_the_result(monkeypatch):
    whole = paired_bootstrap(A, B)
    monkeypatch.setattr("rpfnet_jax.metrics.comparison._BATCH", 1000)
    assert paired_bootstrap(A, B) == pytest.approx(whole, abs=1e-12)


def test_few_values():
    assert mean_interval([0.3]) == (0.3, 0.3)
    assert mean_interval([0.3, math.nan]) == (0.3, 0.3)
    assert np.isnan(mean_interval([math.nan])).all()
    assert np.isnan(mean_interval([])).all()


def test_pairs_are_kept_together():
    """A constant lead on very different images is certain; resampling A and B apart would not show it."""
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


def test_methods_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="got 1 and 2 values"):
        paired_bootstrap(np.ones(1), np.ones(2))


METRICS = ("EN", "SF", "SD", "CC", "SCD", "VIFF")

# Transcribed from the paper; the last number of a row is the printed RoR.
TABLE_1 = {
    "1": (7.459, 6.581, 10.68, 0.640, 1.728, 0.668, 2),
    "3": (7.434, 6.235, 10.69, 0.642, 1.736, 0.675, 1),
    "5": (7.415, 6.150, 10.76, 0.642, 1.734, 0.660, 3),
    "7": (7.379, 6.121, 10.45, 0.645, 1.727, 0.662, 4),
    "9": (7.369, 5.958, 10.77, 0.634, 1.685, 0.636, 5),
}
TABLE_2 = {
    "4": (7.432, 6.199, 10.77, 0.640, 1.734, 0.676, 2),
    "4.8": (7.410, 5.931, 10.54, 0.637, 1.747, 0.668, 3),
    "5": (7.434, 6.235, 10.69, 0.642, 1.736, 0.675, 1),
    "5.2": (7.355, 5.920, 10.33, 0.634, 1.732, 0.634, 5),
    "6": (7.383, 5.623, 10.52, 0.640, 1.720, 0.627, 4),
}


@pytest.mark.parametrize("table", [TABLE_1, TABLE_2], ids=["table 1", "table 2"])
def test_the_papers_columns_come_out(table):
    standings = rank_of_ranks({name: dict(zip(METRICS, row[:6], strict=True)) for name, row in table.items()})
    assert {name: standing.ror for name, standing in standings.items()} == {n: row[6] for n, row in table.items()}


def test_ties_share_the_average_rank():
    standings = rank_of_ranks({"a": {"x": 2.0, "y": 1.0}, "b": {"x": 2.0, "y": 3.0}, "c": {"x": 1.0, "y": 3.0}})
    assert {name: standing.mean_rank for name, standing in standings.items()} == {"a": 2.25, "b": 1.5, "c": 2.25}
    assert {name: standing.ror for name, standing in standings.items()} == {"a": 2.5, "b": 1.0, "c": 2.5}


def test_lower_is_better_where_said():
    table = {"foggy": {"EN": 7.0, "lift": 0.5}, "clear": {"EN": 6.0, "lift": 0.1}}
    assert [standing.ror for standing in rank_of_ranks(table).values()] == [1, 2]
    assert [standing.ror for standing in rank_of_ranks(table, lower={"lift"}).values()] == [1.5, 1.5]


TABLES = st.lists(st.tuples(*3 * [st.integers(-3, 3)]), min_size=1, max_size=6)


@given(TABLES)
def test_only_order_counts_and_ranks_sum_up(rows):
    table = {str(index): dict(zip("xyz", map(float, row), strict=True)) for index, row in enumerate(rows)}
    stretched = {name: {key: float(np.exp(value)) for key, value in row.items()} for name, row in table.items()}
    standings = rank_of_ranks(table)
    assert standings == rank_of_ranks(stretched)
    count = len(rows)
    assert sum(standing.ror for standing in standings.values()) == count * (count + 1) / 2
    assert sum(s.mean_rank for s in standings.values()) == pytest.approx(count * (count + 1) / 2)
    # Negated values with the other direction are the same contest.
    negated = {name: {key: -value for key, value in row.items()} for name, row in table.items()}
    assert rank_of_ranks(negated, lower="xyz") == standings


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": {"x": 1.0}, "b": {"y": 1.0}}, "b has the metrics"),
        ({"a": {"x": 1.0}, "b": {"x": float("nan")}}, "b can't be ranked by x"),
        ({"a": {}}, "at least one metric"),
    ],
)
def test_what_has_no_rank_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        rank_of_ranks(table)


def test_an_empty_table_has_no_ranks():
    assert rank_of_ranks({}) == {}
