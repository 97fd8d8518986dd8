"""Dark lift and target keep on images whose values are obvious."""

import numpy as np
import pytest

from rpfnet_jax import metrics


def test_dark_lift_averages_where_both_sources_are_dark():
    # The thresholds are exclusive and lie between levels: 25/255 < 0.1 < 26/255 and 12/255 < 0.05 < 13/255.
    ir = np.array([[25, 26, 25, 0]], np.uint8)
    vis = np.array([[12, 12, 13, 0]], np.uint8)
    fused = np.array([[51, 255, 255, 0]], np.uint8)
    assert metrics.dark_lift(fused, ir, vis) == pytest.approx(0.1)


def test_dark_lift_is_undefined_by_day():
    day = np.full((4, 5), 120, np.uint8)
    assert np.isnan(metrics.dark_lift(day, day, day))


def test_target_keep_looks_at_the_hottest_hundredth():
    ir = np.zeros((20, 30), np.uint8)
    ir[5, 5:11] = 200  # 6 of 600 pixels
    vis = np.full_like(ir, 10)
    vis[5, 5] = 220
    fused = np.full_like(ir, 255)
    fused[5, 5:11] = 150
    assert metrics.target_keep(fused, ir, vis) == pytest.approx(6 * 150 / (220 + 5 * 200))


def test_target_keep_counts_all_saturated_pixels():
    ir = np.zeros((20, 30), np.uint8)
    ir[:2] = 255
    fused = np.zeros_like(ir)
    fused[0] = 255
    assert metrics.target_keep(fused, ir, np.zeros_like(ir)) == pytest.approx(0.5)


def test_target_keep_of_the_brighter_source_is_one():
    rng = np.random.default_rng(0)
    ir, vis = rng.integers(0, 256, (2, 24, 31), np.uint8)
    assert metrics.target_keep(np.maximum(ir, vis), ir, vis) == 1


def test_target_keep_is_undefined_without_light():
    black = np.zeros((4, 5), np.uint8)
    assert np.isnan(metrics.target_keep(black, black, black))
