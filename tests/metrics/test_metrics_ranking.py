"""Rank of ranks: the paper's own tables, and laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpfnet_jax.metrics import rank_of_ranks

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


def test_nobody_has_no_rank():
    assert rank_of_ranks({}) == {}
