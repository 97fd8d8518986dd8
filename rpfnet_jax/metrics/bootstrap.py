"""The bootstrap over images: how far a mean can be trusted, and whether a lead is more than these pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

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
