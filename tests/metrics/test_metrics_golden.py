"""Published values: three methods on six TNO pairs, as a widely used MATLAB toolbox computed them."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax import metrics
from rpfnet_jax.metrics.registry import measure_batch

# What the toolbox computes, and how closely it is reproduced. The bounds are a few times the largest
# difference over the 18 rows: rounding noise only. VIFp is worse because Gaussian windows are summed in
# another order and the model divides by small variances.
COLUMNS = {
    "EN": (lambda f, i, v: metrics.entropy(f), 1e-13),
    "SF_standard_div255": (lambda f, i, v: metrics.spatial_frequency(f) / 255, 1e-15),
    "SD_paper": (lambda f, i, v: metrics.standard_deviation(f, protocol="paper"), 1e-14),
    "CC": (metrics.correlation_coefficient, 1e-13),
    "SCD": (metrics.scd, 1e-13),
    "VIFp_sum_uint8": (lambda f, i, v: metrics.vifp_sum(f, i, v, protocol="paper"), 1e-9),
    # Central differences, yet divided by (h - 1)(w - 1).
    "AG": (lambda f, i, v: metrics.average_gradient(f), 5e-14),
    # The joint histogram merges levels 254 and 255, the marginal ones do not.
    "MI": (lambda f, i, v: metrics.mutual_information(f, i, v, protocol="paper"), 1e-11),
    # Rounding noise of the [0, 1] scale decides orientations and ties: the order of summation matters.
    "Qabf": (lambda f, i, v: metrics.qabf(f, i, v, protocol="paper"), 1e-14),
}


@cache
def load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return metrics.to_gray8(np.asarray(image))


@pytest.fixture
def rows(shared_dir):
    """The sheet as (values, fused, ir, vis)."""
    golden = shared_dir / "reference" / "golden" / "metrics"
    with (golden / "sheet.csv").open(newline="") as file:
        sheet = list(csv.DictReader(file))
    return [(row, *(load(golden / folder / row["image"]) for folder in (row["method"], "ir", "vis"))) for row in sheet]


def differences(rows, column, function):
    return [abs(function(f, i, v) - float(row[column])) for row, f, i, v in rows]


@pytest.mark.parametrize("column", COLUMNS)
def test_sheet_is_reproduced(rows, column):
    function, tolerance = COLUMNS[column]
    assert len(rows) == 18
    assert max(differences(rows, column, function)) <= tolerance


# Columns of the sheet that the batched twin computes, too, and their scale.
BATCHED = {
    "EN": ("en", 1),
    "SF_standard_div255": ("sf_standard", 255),
    "SD_paper": ("sd_paper", 1),
    "CC": ("cc", 1),
    "SCD": ("scd", 1),
    "VIFp_sum_uint8": ("vifp_paper", 1),
    "AG": ("ag", 1),
}


@pytest.mark.usefixtures("cheap_compilation")
def test_batched_twin_reproduces_the_sheet(rows):
    smallest = min((row[1].shape for row in rows), key=np.prod)
    same_size = [row for row in rows if row[1].shape == smallest]
    assert len(same_size) >= 3
    measured = measure_batch(*(np.stack(images) for images in list(zip(*same_size, strict=True))[1:]))
    for index, (row, *_) in enumerate(same_size):
        for column, (name, scale) in BATCHED.items():
            assert float(measured[name][index]) / scale == pytest.approx(float(row[column]), rel=1e-5), column


def test_standard_definitions_of_mi_and_qabf_stay_close_to_the_sheet(rows):
    # White areas make the difference in MI: 0.036 bits in the worst image, 1e-12 where nothing is white.
    assert max(differences(rows, "MI", metrics.mutual_information)) < 0.04
    assert max(differences(rows, "Qabf", metrics.qabf)) < 0.0015
