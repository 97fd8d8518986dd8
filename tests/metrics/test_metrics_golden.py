"""Published values: three methods on six TNO pairs, as a widely used MATLAB toolbox computed them."""

import pytest

from rpfnet_jax import metrics

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


def differences(sheet, column, function):
    return [abs(function(f, i, v) - float(row[column])) for row, f, i, v in sheet]


@pytest.mark.parametrize("column", COLUMNS)
def test_sheet_is_reproduced(sheet, column):
    function, tolerance = COLUMNS[column]
    assert len(sheet) == 18
    assert max(differences(sheet, column, function)) <= tolerance


def test_standard_definitions_of_mi_and_qabf_stay_close_to_the_sheet(sheet):
    # White areas make the difference in MI: 0.036 bits in the worst image, 1e-12 where nothing is white.
    assert max(differences(sheet, "MI", metrics.mutual_information)) < 0.04
    assert max(differences(sheet, "Qabf", metrics.qabf)) < 0.0015
