"""What must hold for any image: identities, symmetries, invariances, and order under degradation."""

import numpy as np
import pytest

from rpfnet_jax import metrics
from rpfnet_jax.metrics.structural import MS_SSIM_MIN_SIZE

# Odd at every scale of the pyramid, so that mirroring leaves the decimated grid where it is.
SHAPE = (65, 81)


def triple(seed=0):
    """Two correlated sources and their mean."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = np.random.default_rng(seed).normal(0, 12, (2, *SHAPE))
    ir = 110 + 70 * np.sin(x / 9) + noise[0]
    vis = 120 + 50 * np.sin(x / 9) + 40 * np.cos(y / 4) + noise[1]
    ir, vis = (np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (ir, vis))
    return ((ir.astype(int) + vis) // 2).astype(np.uint8), ir, vis


def flat(level):
    return np.full(SHAPE, level, np.uint8)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_constant_images_have_defined_values(level):
    row = metrics.measure(flat(level), flat(level), flat(level))
    # Too small for MS-SSIM.
    undefined = {"ms_ssim", "target_keep" if level == 0 else "dark_lift"}
    assert {column for column, value in row.items() if np.isnan(value)} == undefined
    for column in ("en", "sf_standard", "sf_paper", "sd_standard", "sd_paper", "cc", "scd", "mi", "ag", "nabf"):
        assert row[column] == 0
    assert row["fmi"] == 1
    assert str(row["en"]) == "0.0"
    assert row["ssim"] == pytest.approx(2)
    assert row["viff_standard"] == row["viff_paper"] == pytest.approx(1)
    assert row["vifp_standard"] == row["vifp_paper"] == 2


def test_flat_fused_image_of_textured_sources_scores_nothing():
    _, ir, vis = triple()
    row = metrics.measure(flat(100), ir, vis)
    assert all(np.isfinite(row[column]) for column in row if column not in ("dark_lift", "ms_ssim"))
    assert row["cc"] == row["mi"] == row["en"] == 0
    assert row["vifp_standard"] == 0
    assert row["viff_standard"] < 1e-4


def test_identity():
    _, image, _ = triple()
    assert metrics.vifp(image, image) == pytest.approx(1, abs=1e-7)
    assert metrics.viff(image, image, image) == pytest.approx(1, abs=1e-7)
    assert metrics.ssim(image, image) == pytest.approx(1, abs=1e-12)
    assert metrics.correlation_coefficient(image, image, image) == pytest.approx(1)
    assert metrics.mutual_information(image, image, image) == pytest.approx(2 * metrics.entropy(image))
    # The two sigmoids at 1, both with their published constants.
    ceiling = 0.9994 / (1 + np.exp(-15 * 0.5)) * 0.9879 / (1 + np.exp(-22 * 0.2))
    assert metrics.qabf(image, image, image) == pytest.approx(ceiling)


@pytest.mark.parametrize("protocol", ["standard", "paper"])
def test_exchange_of_the_sources(protocol):
    fused, ir, vis = triple()
    for metric in (metrics.mutual_information, metrics.qabf, metrics.vifp_sum):
        assert metric(fused, ir, vis, protocol=protocol) == pytest.approx(metric(fused, vis, ir, protocol=protocol))
    for metric in (metrics.correlation_coefficient, metrics.scd, metrics.ssim_sum):
        assert metric(fused, ir, vis) == pytest.approx(metric(fused, vis, ir))


def large(seed=0):
    """Two images with even sides at each of the five scales of MS-SSIM."""
    coarse = np.random.default_rng(seed).normal(0, 50, (2, 24, 28))
    fine = np.random.default_rng(seed + 1).normal(0, 20, (2, 192, 224))
    scene, other = 128 + np.kron(coarse, np.ones((8, 8))) + fine
    return [np.clip(image, 0, 255).astype(np.uint8) for image in (scene, (scene + other) / 2)]


def test_ms_ssim_laws():
    a, b = large()
    assert metrics.ms_ssim(a, a) == pytest.approx(1, abs=1e-12)
    assert metrics.ms_ssim(a, b) == pytest.approx(metrics.ms_ssim(b, a), rel=1e-12)
    assert 0 < metrics.ms_ssim(a, b) < 0.9
    for turn in TURNS.values():
        assert metrics.ms_ssim(turn(a), turn(b)) == pytest.approx(metrics.ms_ssim(a, b), rel=1e-12)
    # A constant offset leaves structure alone; only the luminance of the coarsest scale counts.
    dark, light = a // 2, a // 2 + 60
    assert metrics.ms_ssim(dark, light) > 0.95 > metrics.ssim(dark, light)
    # Where structures are reversed the means are negative, and count as 0.
    assert metrics.ms_ssim(a, 255 - a) == 0
    assert metrics.ms_ssim_sum(a, a, b) == pytest.approx(1 + metrics.ms_ssim(a, b))


def test_ms_ssim_needs_five_scales():
    least = MS_SSIM_MIN_SIZE
    flat_image = np.full((least, least + 6), 7, np.uint8)
    assert metrics.ms_ssim(flat_image, flat_image) == pytest.approx(1)
    assert metrics.measure(*[flat_image] * 3)["ms_ssim"] == pytest.approx(2)
    with pytest.raises(ValueError, match=f"at least {least}"):
        metrics.ms_ssim(flat_image[1:], flat_image[1:])


def test_nabf_counts_new_edges_only():
    fused, ir, vis = triple()
    assert metrics.nabf(fused, ir, vis) == pytest.approx(metrics.nabf(fused, vis, ir), rel=1e-12)
    assert metrics.nabf(ir, ir, vis) == metrics.nabf(vis, ir, vis) == 0
    assert metrics.nabf(flat(90), ir, vis) == 0
    noise = np.random.default_rng(2).normal(size=SHAPE)
    noisy = [np.clip(np.rint(fused + level * noise), 0, 255).astype(np.uint8) for level in (0, 5, 15, 45)]
    values = [metrics.nabf(image, ir, vis) for image in noisy]
    assert values == sorted(values)
    assert 0 <= values[0] < values[-1] <= 1
    # Brightness is no edge.
    assert metrics.nabf(fused // 2 + 50, ir // 2 + 20, vis // 2) == pytest.approx(
        metrics.nabf(fused // 2, ir // 2, vis // 2), rel=1e-12
    )


def test_fmi_laws():
    fused, ir, vis = triple()
    value = metrics.fmi(fused, ir, vis)
    assert metrics.fmi(fused, vis, ir) == pytest.approx(value, rel=1e-12)
    assert metrics.fmi(ir, ir, ir) == 1
    # A window is read relative to its own range.
    assert metrics.fmi(ir // 2 + 100, ir // 2, ir // 2 + 9) == pytest.approx(1, abs=1e-12)
    assert metrics.fmi(flat(9), ir, vis) == pytest.approx(0, abs=1e-12)
    noise = np.random.default_rng(5).integers(0, 256, SHAPE, np.uint8)
    assert metrics.fmi(ir, ir, vis) > value > metrics.fmi(noise, ir, vis)


def test_viff_takes_the_visible_source_when_gains_tie():
    _, textured, _ = triple()
    # All gains are 0: against a flat VIS nothing is lost, against a textured one everything.
    assert metrics.viff(flat(90), textured, flat(90)) == pytest.approx(1)
    assert metrics.viff(flat(90), flat(90), textured) < 1e-4


def test_measures_of_two_images_are_symmetric_or_not():
    _, image, other = triple()
    assert metrics.ssim(image, other) == pytest.approx(metrics.ssim(other, image), abs=1e-14)
    faint = (image // 2).astype(np.uint8)
    assert metrics.vifp(image, faint) < 0.95
    assert metrics.vifp(faint, image) > 1.05


TURNS = {"transposed": np.transpose, "left to right": np.fliplr, "upside down": np.flipud}


@pytest.mark.parametrize("turn", TURNS)
def test_orientation_of_the_image_does_not_matter(turn):
    before = metrics.measure(*triple())
    after = metrics.measure(*(np.ascontiguousarray(TURNS[turn](image)) for image in triple()))
    # Saturating differences see rising edges only; Qabf sets the orientation of vertical gradients to +π/2,
    # and compares orientations without wrapping.
    # FMI numbers the pixels of a window.
    loose = {"sf_paper": 0.1, "qabf": 0.02, "fmi": 0.002}
    for column, value in before.items():
        assert after[column] == pytest.approx(value, rel=loose.get(column, 1e-9), nan_ok=True), column


def test_memory_layout_does_not_matter():
    images = triple()
    strided = tuple(np.repeat(image, 2, axis=1)[:, ::2] for image in images)
    assert not strided[0].flags.c_contiguous
    assert metrics.measure(*strided) == pytest.approx(metrics.measure(*images), rel=1e-12, nan_ok=True)


def test_inputs_are_left_alone():
    images = triple()
    for image in images:
        image.flags.writeable = False
    metrics.measure(*images)


def test_noise_lowers_every_measure_of_likeness():
    _, scene, _ = triple()
    noise = np.random.default_rng(3).normal(size=SHAPE)
    sheets = []
    for level in (0, 4, 12, 36):
        fused = np.clip(np.rint(scene + level * noise), 0, 255).astype(np.uint8)
        row = metrics.measure(fused, scene, scene)
        row["mi_paper"] = metrics.mutual_information(fused, scene, scene, protocol="paper")
        sheets.append(row)
    falling = ("cc", "viff_standard", "viff_paper", "vifp_standard", "vifp_paper", "qabf", "mi", "ssim")
    for column in (*falling, "mi_paper"):
        values = [sheet[column] for sheet in sheets]
        assert values == sorted(values, reverse=True), column
        assert values[0] > 1.03 * values[-1], column


def test_paper_qabf_takes_equal_strengths_for_their_ratio():
    # A known flaw of the toolbox, kept because published values contain it: copies score below noisy copies.
    _, scene, _ = triple()
    copy = metrics.qabf(scene, scene, scene, protocol="paper")
    nearly = np.where(scene < 255, scene + (np.indices(SHAPE).sum(axis=0) % 2).astype(np.uint8), scene)
    assert copy < 0.5 < metrics.qabf(nearly, scene, scene, protocol="paper")
    assert metrics.qabf(nearly, scene, scene) < metrics.qabf(scene, scene, scene)


def test_small_cases_by_hand():
    image = np.array([[0, 10], [30, 20]], np.uint8)
    # dy = 30, 10; dx = 10, -10.
    assert metrics.spatial_frequency(image) == pytest.approx(np.sqrt(500 + 100))
    assert metrics.spatial_frequency(image, protocol="paper") == pytest.approx(np.sqrt((255 + 100) / 2 + 50))
    # Mean 15: deviations -15, -5, 15, 5.
    assert metrics.standard_deviation(image) == pytest.approx(np.sqrt(125))
    assert metrics.standard_deviation(image, protocol="paper") == pytest.approx(np.sqrt((225 + 25) / 4))
    assert metrics.average_gradient(image) == pytest.approx(
        sum(np.sqrt((dx**2 + dy**2) / 2) for dx in (10, -10) for dy in (30, 10))
    )
    assert metrics.entropy(image) == pytest.approx(2)
    assert metrics.mutual_information(image, image, np.zeros_like(image)) == pytest.approx(2)


def test_paper_mutual_information_merges_the_two_brightest_levels_in_the_joint_histogram_only():
    image = np.array([[254, 255], [254, 255]], np.uint8)
    assert metrics.mutual_information(image, image, image) == pytest.approx(2)
    # 1 + 1 - 0 bits for each source.
    assert metrics.mutual_information(image, image, image, protocol="paper") == pytest.approx(4)


def test_paper_standard_deviation_rounds_halves_up():
    image = np.array([[0, 1]], np.uint8)
    assert metrics.standard_deviation(image, protocol="paper") == pytest.approx(np.sqrt(0.5))


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
