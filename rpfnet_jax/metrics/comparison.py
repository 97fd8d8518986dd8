"""From one row per image to one row per method: means, bootstrap intervals and ranks."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import bootstrap, rankdata

RESAMPLES = 10_000
# Values that a bootstrap holds in memory at a time: 32 MB.
_BATCH = 4_000_000


@dataclasses.dataclass(frozen=True)
class Summary:
    """One column of a table over many images.

    Attributes:
        mean: arithmetic mean of the entries that are not NaN; NaN if there are none.
        std: their population standard deviation (divisor n); NaN if there are none.
        count: their number.
    """

    mean: float
    std: float
    count: int


def summarise(rows: Iterable[Mapping[str, float]]) -> dict[str, Summary]:
    """Averages each column over the rows and leaves out NaN entries.

    Args:
        rows: one mapping column -> value per image, as `measure` returns it; all with the same columns.

    Returns:
        Column -> `Summary`, in the order of the first row; empty if there are no rows.

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
    # np.nanmean warns where a column is all NaN, which is a normal case: daylight images have no dark pixels.
    used = [value for value in values if not math.isnan(value)]
    if not used:
        return Summary(math.nan, math.nan, 0)
    return Summary(float(np.mean(used)), float(np.std(used)), len(used))


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Computes a percentile bootstrap interval of the mean (Efron 1979) from `RESAMPLES` resamples.

    Args:
        values: one per image; NaN entries are left out.
        level: share of the resampled means that the interval holds.
        seed: seed of the resampling; the same values and seed give the same interval.

    Returns:
        Its ends; both the value itself if there is only one, NaN if there is none.
    """
    used = np.asarray(values, dtype=np.float64)
    low, high, _ = _bootstrap_mean(used[~np.isnan(used)], level, seed)
    return low, high


class PairedDifference(NamedTuple):
    """The difference between A and B in one metric.

    Attributes:
        difference: mean of A minus mean of B over the images that count.
        low: 2.5 % quantile of that difference over the resamples.
        high: 97.5 % quantile.
        share_better: share of the resamples in which A is better; equal ones count half. Near 0.5 there is no evidence
            for either.
        images: number of images on which both are defined.
    """

    difference: float
    low: float
    high: float
    share_better: float
    images: int


def paired_bootstrap(
    a: Float[np.ndarray, " images"],
    b: Float[np.ndarray, " others"],
    *,
    higher_is_better: bool = True,
    seed: int = 0,
) -> PairedDifference:
    """Bootstraps the mean difference of two methods, always resampling A and B of the same image together.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, percentile interval. The interval covers other images
    of the same kind, but neither other data sets nor other training runs of the same network.

    Args:
        a: one value per image.
        b: likewise, the same images in the same order. Images where either is NaN do not count.
        higher_is_better: whether a positive difference means that A is better.
        seed: seed of the resampling; equal arguments give equal results.

    Returns:
        The difference with its 95 % interval; all NaN if no image counts.

    Raises:
        ValueError: `a` and `b` differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"paired methods need the same images, got {len(a)} and {len(b)} values")
    differences = a.astype(np.float64) - b
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return PairedDifference(math.nan, math.nan, math.nan, math.nan, 0)
    low, high, means = _bootstrap_mean(differences, 0.95, seed)
    good = means if higher_is_better else -means
    share = np.mean(good > 0) + np.mean(good == 0) / 2
    return PairedDifference(float(differences.mean()), low, high, float(share), len(differences))


def _bootstrap_mean(values: np.ndarray, level: float, seed: int) -> tuple[float, float, np.ndarray]:
    """Returns the ends of the interval and the resampled means."""
    if len(values) < 2:
        # SciPy refuses these; every resample of one value is that value.
        only = float(values[0]) if len(values) else math.nan
        return only, only, values
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // len(values)),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return float(low), float(high), found.bootstrap_distribution


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

    Equal values share the average of the ranks that they take up. Ranks record order only: a lead of a thousandth
    counts as much as one of a half, and adding a method can change the order of the others.

    Args:
        table: method -> metric -> value, the same metrics for all.
        lower: the metrics of which a lower value is better; of all others a higher value is better.

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
    # Sums of ranks are multiples of 1/2 and therefore exact, so equal means stay equal.
    places = rankdata(ranks.sum(axis=1))
    means = ranks.sum(axis=1) / len(metrics)
    return {
        method: Standing(float(mean), float(place)) for method, mean, place in zip(table, means, places, strict=True)
    }
