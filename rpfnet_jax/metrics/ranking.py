"""Who leads over several metrics: mean rank, and the rank of ranks (RoR) of the paper's Tables 1 and 2."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


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
