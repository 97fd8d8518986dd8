"""From one row per image to one row per method."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


@dataclasses.dataclass(frozen=True)
class Summary:
    """One column of a table over many images.

    Attributes:
        mean: arithmetic mean of the entries that are not NaN; NaN if there are none.
        std: their population standard deviation (divisor n); NaN if there are none.
        count: how many there are.
    """

    mean: float
    std: float
    count: int


def summarise(rows: Iterable[Mapping[str, float]]) -> dict[str, Summary]:
    """Averages each column over the rows and leaves out NaN entries.

    Args:
        rows: one mapping column → value per image, as `measure` returns it; all with the same columns.

    Returns:
        Column → `Summary`, in the order of the first row; empty if there are no rows.

    Raises:
        ValueError: the rows do not have the same columns.
    """
    rows = list(rows)
    if not rows:
        return {}
    columns = list(rows[0])
    for index, row in enumerate(rows):
        if set(row) != set(columns):
            raise ValueError(f"row {index} has the columns {sorted(row)}, row 0 has {sorted(columns)}")
    return {column: _summarise_column([row[column] for row in rows]) for column in columns}


def _summarise_column(values: list[float]) -> Summary:
    # np.nanmean warns where a column is all NaN, which is a normal case: day pictures have no dark pixels.
    used = [value for value in values if not math.isnan(value)]
    if not used:
        return Summary(math.nan, math.nan, 0)
    return Summary(float(np.mean(used)), float(np.std(used)), len(used))


RESAMPLES = 10_000
# Indices held at a time: 32 MB.
_CHUNK = 4_000_000


class PairedDifference(NamedTuple):
    """How A differs from B in one metric.

    Attributes:
        difference: mean of A minus mean of B over the images that count.
        low: 2.5 % quantile of that difference over the resamples.
        high: 97.5 % quantile.
        share_better: share of the resamples in which A is better; equal ones count half. Near 0.5: cannot be told.
        images: how many, on which both are defined.
    """

    difference: float
    low: float
    high: float
    share_better: float
    images: int


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979): `RESAMPLES` sets of the same size, with replacement.

    Args:
        values: one per image; NaN entries are left out.
        level: share of the resampled means that the interval holds.
        seed: of the draw; the same values and seed give the same interval.

    Returns:
        Its ends; both the value itself if there is one, NaN if there is none.
    """
    used = np.asarray(values, dtype=np.float64)
    used = used[~np.isnan(used)]
    if not len(used):
        return float("nan"), float("nan")
    low, high = np.quantile(_resampled_means(used, RESAMPLES, seed), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap(
    a: Float[np.ndarray, " images"],
    b: Float[np.ndarray, " others"],
    *,
    higher_is_better: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Resamples the images with replacement, always A and B of the same image, and looks at the mean difference.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, percentile interval. It answers for other images of
    the same kind, not for other sets, and not for other trainings of the same network. Equal arguments give equal
    results.

    Args:
        a: float (n,), one value per image.
        b: likewise, the same images in the same order. Images where either is NaN do not count.
        higher_is_better: which sign of the difference is good for A.
        resamples: how many sets of images to draw.
        seed: of the draws.

    Returns:
        The difference with its 95 % interval; all NaN if no image counts.

    Raises:
        ValueError: `a` and `b` differ in length, or `resamples` is not positive.
    """
    if len(a) != len(b):
        raise ValueError(f"paired methods need the same images, got {len(a)} and {len(b)} values")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    differences = a.astype(np.float64) - b
    differences = differences[~np.isnan(differences)]
    count = len(differences)
    if count == 0:
        nan = float("nan")
        return PairedDifference(nan, nan, nan, nan, 0)
    means = _resampled_means(differences, resamples, seed)
    good = means if higher_is_better else -means
    low, high = np.percentile(means, (2.5, 97.5))
    share = np.mean(good > 0) + np.mean(good == 0) / 2
    return PairedDifference(float(differences.mean()), float(low), float(high), float(share), count)


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(values))
    return np.concatenate(
        [
            values[rng.integers(len(values), size=(min(rows, resamples - start), len(values)))].mean(axis=1)
            for start in range(0, resamples, rows)
        ]
    )


class Standing(NamedTuple):
    """One method's place among the others.

    Attributes:
        mean_rank: its rank averaged over the metrics; 1 is first in every one of them.
        ror: the rank of that mean among the methods' means; 1 leads, equal means share the average rank.
    """

    mean_rank: float
    ror: float


def rank_of_ranks(table: Mapping[str, Mapping[str, float]], lower: Collection[str] = ()) -> dict[str, Standing]:
    """Ranks every method per metric, averages its ranks, and ranks the averages.

    Equal values share the average of the ranks that they take up. Ranks know order only: a lead of a thousandth counts
    as much as one of a half, and adding a method can change the order of the others.

    Args:
        table: method -> metric -> value, the same metrics for all.
        lower: the metrics of which a lower value is better; the others: higher.

    Returns:
        Method -> `Standing`, in the order of `table`; empty for an empty table.

    Raises:
        ValueError: no metrics, a method lacks some that another has, or a value is NaN, which has no rank.
    """
    if not table:
        return {}
    metrics = list(next(iter(table.values())))
    if not metrics:
        raise ValueError("ranks need at least one metric")
    for method, values in table.items():
        if set(values) != set(metrics):
            raise ValueError(f"{method} has the metrics {sorted(values)}, others have {sorted(metrics)}")
        undefined = [metric for metric in metrics if np.isnan(values[metric])]
        if undefined:
            raise ValueError(f"{method} can't be ranked by {', '.join(undefined)}: the value is not a number")
    # Best first: rank 1 goes to the smallest of these.
    signs = np.array([1.0 if metric in lower else -1.0 for metric in metrics])
    matrix = np.array([[row[metric] for metric in metrics] for row in table.values()])
    ranks = rankdata(signs * matrix, axis=0)
    # By sums: they are multiples of 1/2, so that equal means are equal in floating point, too.
    places = rankdata(ranks.sum(axis=1))
    means = ranks.sum(axis=1) / len(metrics)
    return {
        method: Standing(float(mean), float(place)) for method, mean, place in zip(table, means, places, strict=True)
    }
