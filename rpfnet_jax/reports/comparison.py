"""Methods beside each other: means over the same images under one protocol, ranks, and what of a lead is chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from rpfnet_jax.metrics import LOWER_IS_BETTER, PROTOCOLS, RESAMPLES, Summary, paired_bootstrap, rank_of_ranks
from rpfnet_jax.reports.table import Column, Table
from rpfnet_jax.reports.tables import COMPANIONS

PerImage = Mapping[str, Mapping[str, float]]

PAPER_METRICS = ("EN", "SF", "SD", "CC", "SCD", "VIFF")
"""The six of the paper, over which its RoR is taken."""


def comparison_table(
    methods: Mapping[str, Mapping[str, Summary]],
    protocol: str,
    printed: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    metrics: Sequence[str] | None = None,
) -> Table:
    """Several methods on one set: mean ± deviation over the images, nothing marked.

    Args:
        methods: name -> column -> `Summary`.
        protocol: `standard` or `paper`.
        printed: name -> metric -> published mean; rows above the measured ones, with dashes where nothing is published.
        metrics: names of `PROTOCOLS[protocol]` and `COMPANIONS`; None: all of the protocol.

    Raises:
        ValueError: an unknown metric, or a method without its column.
    """
    chosen = _chosen(protocol, PROTOCOLS[protocol] if metrics is None else metrics, methods)
    rows: dict[str, list[str]] = {name: [str(row.get(m, "-")) for m in chosen] for name, row in printed.items()}
    for name, summary in methods.items():
        rows[name] = [f"{summary[column].mean:.3f} ± {summary[column].std:.3f}" for column in chosen.values()]
    return Table([Column(metric, None) for metric in chosen], rows, corner="")


def ranking_table(
    methods: Mapping[str, Mapping[str, Summary]], protocol: str, metrics: Sequence[str] = PAPER_METRICS
) -> Table:
    """Several methods on the same images: means, best and second marked, mean rank and RoR, and who leads.

    Ranks are taken over the columns of the table that are defined for every method.

    Args:
        methods: name -> column -> `Summary`, all over the same images.
        protocol: `standard` or `paper`.
        metrics: the columns, names of `PROTOCOLS[protocol]` and `COMPANIONS`.

    Raises:
        ValueError: no methods, an unknown metric, or a method without its column.
    """
    chosen = _chosen(protocol, metrics, methods)
    means = {name: {m: summary[column].mean for m, column in chosen.items()} for name, summary in methods.items()}
    columns = [Column(metric, "lower" if column in LOWER_IS_BETTER else "higher") for metric, column in chosen.items()]
    cells: dict[str, list[float | str | None]] = {name: list(row.values()) for name, row in means.items()}
    note = ""
    ranked = [metric for metric in chosen if all(not np.isnan(row[metric]) for row in means.values())]
    if ranked and len(methods) > 1:
        lower = {metric for metric in ranked if chosen[metric] in LOWER_IS_BETTER}
        standings = rank_of_ranks({n: {m: row[m] for m in ranked} for n, row in means.items()}, lower)
        columns += [Column("mean rank", None, 2), Column("RoR", None, 1)]
        for name, standing in standings.items():
            cells[name] += standing
        best = min(standing.ror for standing in standings.values())
        leaders = [name for name, standing in standings.items() if standing.ror == best]
        verb = "leads" if len(leaders) == 1 else "lead"
        note = f"Ranks over {', '.join(ranked)}: {' and '.join(leaders)} {verb}."
    return Table(columns, cells, {"protocol": protocol, "pairs": str(_pairs(methods))}, note)


def versus_table(
    a: tuple[str, PerImage], b: tuple[str, PerImage], protocol: str, metrics: Sequence[str] = PAPER_METRICS
) -> Table:
    """Two methods metric by metric: means, their difference with its bootstrapped 95 % interval, and how sure it is.

    Args:
        a: name, and image -> row of `rpfnet_jax.metrics.measure`.
        b: likewise, with the same images.
        protocol: `standard` or `paper`.
        metrics: the rows, names of `PROTOCOLS[protocol]` and `COMPANIONS`.

    Raises:
        ValueError: the images are not the same, an unknown metric, or an image without its column.
    """
    (name_a, rows_a), (name_b, rows_b) = a, b
    if set(rows_a) != set(rows_b):
        raise ValueError(f"{name_a} and {name_b} were not measured on the same images")
    holders = {f"{name}, {image}": row for name, rows in (a, b) for image, row in rows.items()}
    chosen = _chosen(protocol, metrics, holders)
    rows: dict[str, list[float | str | None]] = {}
    for metric, column in chosen.items():
        values = [np.array([rows[image][column] for image in rows_a]) for rows in (rows_a, rows_b)]
        lower = column in LOWER_IS_BETTER
        found = paired_bootstrap(*values, higher_is_better=not lower)
        defined = ~np.isnan(values[0]) & ~np.isnan(values[1])
        means = [float(v[defined].mean()) if defined.any() else None for v in values]
        head = Column(metric, "lower" if lower else "higher").head
        rows[head] = [*means, *found[:3], found.share_better, str(found.images)]
    heads = (name_a, name_b, "difference", "2.5 %", "97.5 %", f"{name_a} better", "pairs")
    note = f"95 % intervals of the difference and share of {RESAMPLES} resamples of the pairs, paired bootstrap."
    return Table([Column(head, None) for head in heads], rows, {"protocol": protocol}, note, corner="metric")


def _chosen(protocol: str, metrics: Iterable[str], holders: Mapping[str, Mapping]) -> dict[str, str]:
    """Printed name -> column, of metrics that every holder has."""
    if not holders:
        raise ValueError("there is nothing to compare")
    known = {**PROTOCOLS[protocol], **COMPANIONS}
    unknown = [metric for metric in metrics if metric not in known]
    if unknown:
        raise ValueError(f"unknown metrics {', '.join(unknown)}; known are {', '.join(known)}")
    chosen = {metric: known[metric] for metric in metrics}
    for name, holder in holders.items():
        missing = [column for column in chosen.values() if column not in holder]
        if missing:
            raise ValueError(f"{name} was not measured by {', '.join(missing)}")
    return chosen


def _pairs(methods: Mapping[str, Mapping[str, Summary]]) -> int:
    """The images behind the means: as many as the column has that is defined on most."""
    return max(value.count for summary in methods.values() for value in summary.values())
