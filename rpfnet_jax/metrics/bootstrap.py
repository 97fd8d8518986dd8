"""How far the mean over the images of a set can be trusted."""

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 5000
# Resamples drawn at once: a thousand of a thousand images take 16 MB.
_AT_ONCE = 1000


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979): 5000 sets of the same size drawn with replacement.

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
    rng = np.random.default_rng(seed)
    draws = (used[rng.integers(len(used), size=(_AT_ONCE, len(used)))] for _ in range(_RESAMPLES // _AT_ONCE))
    means = np.concatenate([draw.mean(axis=1) for draw in draws])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
