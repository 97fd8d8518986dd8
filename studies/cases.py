"""The paper's Tables 1 to 3 as data: the configuration fields that each case changes, and the printed numbers.

The printed metrics are means over the 40 validation pairs of FLIR, protocol `paper`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

METRICS = ("EN", "SF", "SD", "CC", "SCD", "VIFF")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        name: the label of the row.
        fields: configuration fields that differ from the study's base; empty for the paper's own method.
        printed: the paper's means, in the order of `METRICS`; empty for a case that the paper does not have.
    """

    name: str
    fields: Mapping[str, Any]
    printed: tuple[float, ...] = ()

    @property
    def slug(self) -> str:
        """Name of the run's folder; cases of different studies that change the same fields share one run."""
        return ",".join(f"{name}={value}" for name, value in self.fields.items()) or "ours"


@dataclasses.dataclass(frozen=True)
class Study:
    """One table of the paper."""

    title: str
    cases: tuple[Case, ...]


def _stages(count: int, *printed: float) -> Case:
    return Case(f"N = {count}", {} if count == 3 else {"model.stages": count}, printed)


def _lambda2(weight: float, *printed: float) -> Case:
    return Case(f"lambda2 = {weight:g}", {} if weight == 5 else {"loss.lambda2": weight}, printed)


_OURS = (7.434, 6.235, 10.69, 0.642, 1.736, 0.675)

STUDIES: dict[str, Study] = {
    "stages": Study(
        "Table 1: number of stages",
        (
            _stages(1, 7.459, 6.581, 10.68, 0.640, 1.728, 0.668),
            _stages(3, *_OURS),
            _stages(5, 7.415, 6.150, 10.76, 0.642, 1.734, 0.660),
            _stages(7, 7.379, 6.121, 10.45, 0.645, 1.727, 0.662),
            _stages(9, 7.369, 5.958, 10.77, 0.634, 1.685, 0.636),
        ),
    ),
    "lambda2": Study(
        "Table 2: weight of the structure loss",
        (
            _lambda2(4.0, 7.432, 6.199, 10.77, 0.640, 1.734, 0.676),
            _lambda2(4.8, 7.410, 5.931, 10.54, 0.637, 1.747, 0.668),
            _lambda2(5.0, *_OURS),
            _lambda2(5.2, 7.355, 5.920, 10.33, 0.634, 1.732, 0.634),
            _lambda2(6.0, 7.383, 5.623, 10.52, 0.640, 1.720, 0.627),
        ),
    ),
    "components": Study(
        "Table 3: ablation",
        (
            Case("w/o L_s", {"loss.lambda2": 0.0}, (7.254, 4.994, 10.53, 0.587, 1.490, 0.479)),
            Case("L_c => freq. l1", {"loss.negatives": "none"}, (7.356, 6.040, 10.95, 0.608, 1.609, 0.627)),
            Case("w/o freq. domain L_c", {"loss.domain": "spatial"}, (7.371, 4.906, 10.36, 0.605, 1.576, 0.462)),
            Case("w/o L_SS", {"loss.auxiliary": False}, (7.336, 4.697, 10.24, 0.634, 1.650, 0.547)),
            Case(
                "w/o w & w~",
                {"loss.adaptive_weights": False, "loss.negatives": "none"},
                (7.175, 4.105, 9.96, 0.651, 1.622, 0.477),
            ),
            Case(
                "FDFM => Trans. block",
                {"model.fusion_block": "transformer"},
                (6.997, 4.581, 10.27, 0.638, 1.575, 0.402),
            ),
            Case("w/o CPM", {"model.cpm": False}, (7.422, 4.687, 10.21, 0.628, 1.663, 0.553)),
            Case(
                # The auxiliary decoder reads the residual features, so it goes with the residual branch.
                "w/o res prior",
                {"model.residual_prior": False, "model.cpm": False, "loss.auxiliary": False},
                (7.387, 5.282, 10.61, 0.640, 1.684, 0.610),
            ),
            Case("ours", {}, _OURS),
        ),
    ),
}
