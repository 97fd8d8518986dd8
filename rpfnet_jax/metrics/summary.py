"""From one row per image to one row per method."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np


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
