"""Feature mutual information (FMI): how much of the local patterns of the sources is still in the fused image."""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rpfnet_jax.metrics.inputs import Gray, check_gray8

_WINDOW = 3
_CELLS = _WINDOW**2
# Windows handled at once: few enough that their arrays stay in a core's cache.
_STRIP = 4096
# Keeps the logarithm of an empty cell finite; times 0 it is 0.
_TINY = 1e-300
# Beyond every mark.
_BEYOND = np.int32(2**24)
_LOGARITHM = np.log(np.maximum(np.arange(256), 1))


class _Patterns:
    """Windows as distributions over their nine pixels.

    Attributes:
        levels: grey levels, int32 (9, n): column after column of the window.
        weight: int32 (9, n): grey level minus the lowest of the window; 1 in a flat window.
        total: int32 (n,), sum of the weights. weight / total is the distribution.
        deviation: float64 (n,), standard deviation of the pixel's number.
        entropy: float64 (n,), in nats.
    """

    def __init__(self, levels: np.ndarray):
        self.levels = levels
        lowest = levels.min(axis=0)
        self.weight = np.where(lowest == levels.max(axis=0), 1, levels - lowest)
        self.total = self.weight.sum(axis=0, dtype=np.int32)
        moments = [sum(number**k * row for number, row in enumerate(self.weight)) for k in (1, 2)]
        # Whole numbers up to the root: the variance can't come out negative.
        self.deviation = (
            np.sqrt(moments[1] * self.total.astype(np.int64) - moments[0].astype(np.int64) ** 2) / self.total
        )
        self.entropy = np.log(self.total) - (self.weight * _LOGARITHM[self.weight]).sum(axis=0) / self.total


def fmi(fused: Gray, ir: Gray, vis: Gray) -> float:
    """Computes the feature mutual information of the raw pixels, (FMI(IR, F) + FMI(VIS, F)) / 2 (FMI_pixel).

    Haghighat, Aghagolzadeh and Seyedarabi 2011, Computers and Electrical Engineering 37(5), over 3 x 3 windows as
    in Haghighat and Razian 2014 (AICT), with the conventions of the authors' MATLAB code:

    - A window becomes a distribution over its nine pixels, column after column: grey level minus the window's
      lowest, divided by the sum; uniform if the window is flat.
    - Of two such distributions p and q, with c the Pearson correlation of their nine values, the joint distribution
      is phi·U + (1 - phi)·p·q. U is the Fréchet bound with these marginals, the upper one for c ≥ 0, the lower one
      for c < 0; phi = c / corr(U), corr(U) being the correlation of the pixels' numbers under U (phi = 0 where it
      is not defined). phi may pass 1, so that cells are negative: they count as -x·log|x|.
    - The value of a window is 2·(H(p) + H(q) - H(joint)) / (H(p) + H(q)); 1 where the two windows are equal,
      else 0 if both entropies are 0.

    The result is the mean over all windows inside the image, which has at least 3 x 3 pixels. As the pixels are
    numbered, turning or mirroring the three images changes it, by some 0.1 %. Toolboxes print the value of that code's
    default feature as FMI_pixel, whichever it is, so compare within one table only. It has no jitted twin: it sorts in
    every window, which array code does slowly.

    Returns:
        A number up to 1, which three equal images reach.
    """
    check_gray8(fused, ir, vis, min_size=_WINDOW)
    total, windows = 0.0, 0
    for f, i, v in zip(_patterns(fused), _patterns(ir), _patterns(vis), strict=True):
        total += np.sum(_likeness(i, f)) + np.sum(_likeness(v, f))
        windows += len(f.total)
    return float(total / (2 * windows))


def _patterns(image: np.ndarray) -> Iterator[_Patterns]:
    columns = np.transpose(sliding_window_view(image, (_WINDOW, _WINDOW)), (3, 2, 0, 1))
    levels = columns.reshape(_CELLS, -1)
    for start in range(0, levels.shape[1], _STRIP):
        yield _Patterns(levels[:, start : start + _STRIP].astype(np.int32))


def _likeness(source: _Patterns, fused: _Patterns) -> np.ndarray:
    """Computes the value of each window."""
    entropies = source.entropy + fused.entropy
    mutual = entropies - _joint_entropy(source, fused)
    value = np.where(entropies > 0, 2 * mutual / np.where(entropies > 0, entropies, 1.0), 0.0)
    return np.where(np.all(source.levels == fused.levels, axis=0), 1.0, value)


def _joint_entropy(source: _Patterns, fused: _Patterns) -> np.ndarray:
    """Computes the joint entropy of each window in nats. Bounds and the sign of c are whole numbers, hence exact.

    Mark on the line from 0 to 1 where each of p's cumulative sums ends, and each of q's: the upper bound gives the cell
    (i, j) the length that p's i-th and q's j-th interval have in common. So it fills one cell per interval between
    neighbouring marks, 17 at most; in all other cells the joint distribution is that of independence, whose entropy is
    known. The marks are sorted in units of 1 / (total of p * total of q), which makes them whole numbers.
    """
    p, q, one = fused.weight, source.weight, fused.total * source.total
    correlation = _correlation(p, q)
    # The lower bound is the upper one of p and the mirrored q, with all correlations reversed.
    q = np.where(correlation < 0, q[::-1], q)
    marks_p, marks_q = np.cumsum(p[:-1], axis=0) * source.total, np.cumsum(q[:-1], axis=0) * fused.total
    # The last bit says whether the mark is one of p's.
    marks = _merge(2 * marks_p + 1, 2 * marks_q)
    is_p = marks & 1
    marks >>= 1
    intervals_p = _intervals(marks, is_p, one)
    intervals_q = _intervals(marks, 1 - is_p, one)

    phi = np.abs(correlation) / _bound_correlation(source, fused, marks_p, marks_q)
    rest = 1 - phi
    share, product_share = phi / one, rest / one.astype(np.float64) ** 2
    entropy = rest * (fused.entropy + source.entropy) - _plogp(rest)
    before = np.zeros_like(one)
    # Row by row, because whole stacks of floats would not fit into the cache.
    for mark, interval_p, interval_q in zip([*marks, one], intervals_p, intervals_q, strict=True):
        independent = product_share * interval_p
        independent *= interval_q
        entropy += _plogp(independent)
        independent += share * (mark - before)
        entropy -= _plogp(independent)
        before = mark
    return entropy


def _plogp(x: np.ndarray) -> np.ndarray:
    logarithm = np.abs(x)
    logarithm += _TINY
    np.log(logarithm, out=logarithm)
    logarithm *= x
    return logarithm


def _merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sorts two stacks (8, n) that are sorted along the first axis into one (16, n): Batcher's bitonic network."""
    merged = np.concatenate([a, b[::-1]])
    for distance in (8, 4, 2, 1):
        halves = merged.reshape(-1, 2, distance, merged.shape[-1])
        merged = np.stack([halves.min(axis=1), halves.max(axis=1)], axis=1).reshape(merged.shape)
    return merged


def _intervals(marks: np.ndarray, own: np.ndarray, one: np.ndarray) -> list[np.ndarray]:
    """Returns the length (n,) of the distribution's interval that each of the 17 spaces between sorted marks lies in.

    Args:
        marks: (16, n).
        own: (16, n): 1 where a mark belongs to this distribution, 0 where it belongs to the other.
        one: (n,), the end of the line.
    """
    foreign = (1 - own) * _BEYOND
    intervals = [one]
    for mark in (marks + foreign)[::-1]:
        intervals.append(np.minimum(intervals[-1], mark))
    intervals.reverse()
    reached = np.zeros_like(one)
    for row, mark in enumerate(marks - foreign, 1):
        reached = np.maximum(reached, mark)
        intervals[row] = intervals[row] - reached
    return intervals


def _bound_correlation(source: _Patterns, fused: _Patterns, marks_p: np.ndarray, marks_q: np.ndarray) -> np.ndarray:
    """Computes the correlation of the pixels' numbers under the upper bound; infinite where it is not defined."""
    one = fused.total.astype(np.float64) * source.total
    # By Hoeffding's formula; below 64 * 2295**2 < 2**31.
    common = sum(np.minimum(mark, marks_q).sum(axis=0, dtype=np.int32) for mark in marks_p)
    covariance = common / one - (marks_p.sum(axis=0) / one) * (marks_q.sum(axis=0) / one)
    deviations = fused.deviation * source.deviation
    defined = (deviations > 0) & (covariance > 0)
    return np.where(defined, covariance / np.where(defined, deviations, 1.0), np.inf)


def _correlation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Computes Pearson's correlation of whole numbers along the first axis; 0 where p or q is constant."""
    sum_p, sum_q = p.sum(axis=0), q.sum(axis=0)
    covariance = _CELLS * np.sum(p * q, axis=0) - sum_p * sum_q
    variance_p, variance_q = (_CELLS * np.sum(x * x, axis=0) - np.sum(x, axis=0) ** 2 for x in (p, q))
    variances = variance_p * variance_q.astype(np.float64)
    return covariance / np.sqrt(np.where(variances > 0, variances, 1.0))
