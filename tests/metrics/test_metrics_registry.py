"""The registry: columns, protocols, and images that `measure` refuses."""

import numpy as np
import pytest

from rpfnet_jax import metrics
from rpfnet_jax.metrics.inputs import check_gray8, check_protocol


def images(shape=(48, 64)):
    return tuple(np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8))


def test_columns_and_types():
    row = metrics.measure(*images())
    assert tuple(row) == metrics.COLUMNS
    assert {type(value) for value in row.values()} == {float}


def test_columns_are_the_functions_they_are_named_after():
    fused, ir, vis = images()
    row = metrics.measure(fused, ir, vis)
    for protocol in ("standard", "paper"):
        assert row[f"sf_{protocol}"] == metrics.spatial_frequency(fused, protocol=protocol)
        assert row[f"sd_{protocol}"] == metrics.standard_deviation(fused, protocol=protocol)
        assert row[f"viff_{protocol}"] == metrics.viff(fused, ir, vis, protocol=protocol)
        assert row[f"vifp_{protocol}"] == metrics.vifp_sum(fused, ir, vis, protocol=protocol)
    assert row["en"] == metrics.entropy(fused)
    assert row["ag"] == metrics.average_gradient(fused)
    assert row["cc"] == metrics.correlation_coefficient(fused, ir, vis)
    assert row["scd"] == metrics.scd(fused, ir, vis)
    assert row["qabf"] == metrics.qabf(fused, ir, vis)
    assert row["mi"] == metrics.mutual_information(fused, ir, vis)
    assert row["ssim"] == metrics.ssim(fused, ir) + metrics.ssim(fused, vis)
    assert row["nabf"] == metrics.nabf(fused, ir, vis)
    assert row["fmi"] == metrics.fmi(fused, ir, vis)
    assert row["dark_lift"] == metrics.dark_lift(fused, ir, vis)
    assert row["target_keep"] == metrics.target_keep(fused, ir, vis)
    assert np.isnan(row["ms_ssim"])
    fused, ir, vis = images((170, 180))
    assert metrics.measure(fused, ir, vis)["ms_ssim"] == metrics.ms_ssim(fused, ir) + metrics.ms_ssim(fused, vis)


def test_protocols_serve_the_same_metrics_from_existing_columns():
    assert list(metrics.PROTOCOLS) == ["standard", "paper"]
    for protocol, columns in metrics.PROTOCOLS.items():
        assert list(columns) == ["EN", "SF", "SD", "CC", "SCD", "VIFF", "VIFp"]
        assert set(columns.values()) <= set(metrics.COLUMNS)
        other = {"standard": "_paper", "paper": "_standard"}[protocol]
        assert not any(column.endswith(other) for column in columns.values())


def test_each_metric_is_declared_once():
    assert tuple(metrics.METRICS) == metrics.COLUMNS
    assert {"nabf", "dark_lift"} == metrics.LOWER_IS_BETTER
    assert [column for column, metric in metrics.METRICS.items() if metric.twin is None] == ["fmi"]
    labels = [*metrics.PROTOCOLS["paper"], *metrics.COMPANIONS]
    assert len(set(labels)) == len(labels)
    assert {metric.label for metric in metrics.METRICS.values()} == set(labels)


def test_columns_of_a_protocol():
    assert metrics.columns_of("both") == metrics.COLUMNS
    standard, paper = metrics.columns_of("standard"), metrics.columns_of("paper")
    assert set(standard) | set(paper) == set(metrics.COLUMNS)
    assert [column for column in standard if column not in paper] == [
        "sf_standard",
        "sd_standard",
        "viff_standard",
        "vifp_standard",
    ]
    assert set(metrics.PROTOCOLS["paper"].values()) <= set(paper)


def test_size_mismatch_names_both_shapes():
    fused, ir, vis = images()
    with pytest.raises(ValueError, match=r"\(48, 64\) and \(48, 63\)"):
        metrics.measure(fused, ir[:, :63], vis[:, :63])
    # NumPy would broadcast this one.
    with pytest.raises(ValueError, match=r"\(48, 64\) and \(48, 1\)"):
        metrics.measure(fused, ir[:, :1], vis)


def test_smallest_size():
    at_least = metrics.MIN_SIZE
    assert np.isfinite(metrics.measure(*images((at_least, at_least)))["viff_paper"])
    with pytest.raises(ValueError, match=rf"at least {at_least} .*\({at_least - 1}, 60\)"):
        metrics.measure(*images((at_least - 1, 60)))
    with pytest.raises(ValueError, match="at least"):
        metrics.viff(*images((60, at_least - 1)))


def test_other_types_are_refused():
    fused, ir, vis = images()
    with pytest.raises(ValueError, match=r"float64 of shape \(48, 64\)"):
        metrics.measure(fused / 255, ir, vis)
    with pytest.raises(ValueError, match=r"\(48, 64, 3\)"):
        metrics.measure(fused, ir, np.stack([vis] * 3, axis=-1))


def test_checks_alone():
    check_gray8()
    check_gray8(*images())
    check_protocol("paper")
    with pytest.raises(ValueError, match="'matlab'"):
        check_protocol("matlab")
