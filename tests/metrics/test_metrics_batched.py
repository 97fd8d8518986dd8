"""The float32 twins against the float64 reference."""

import numpy as np
import pytest

from rpfnet_jax import metrics
from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.images import read_gray
from rpfnet_jax.data.pairs import find_pairs

# All batches that need all twins have one shape, because each shape is compiled: that of the smallest images of the
# published sheet, large enough for MS-SSIM.
BATCH, SIDE = 4, 256


def compare(fused, ir, vis):
    """Compares the twins on the batch with the reference on each of its images."""
    columns = metrics.measure_batch(fused, ir, vis)
    assert tuple(columns) == metrics.COLUMNS
    for index, triple in enumerate(zip(fused, ir, vis, strict=True)):
        expected = metrics.measure(*triple)
        for column, values in columns.items():
            assert values.dtype == np.float32
            assert values.shape == (len(fused),)
            value = pytest.approx(expected[column], rel=1e-4, abs=1e-6, nan_ok=True)
            assert float(values[index]) == value, (index, column)
    return columns


# Columns of the published sheet, the twins' names for them, and their scale.
PUBLISHED = {
    "EN": ("en", 1),
    "SF_standard_div255": ("sf_standard", 255),
    "SD_paper": ("sd_paper", 1),
    "CC": ("cc", 1),
    "SCD": ("scd", 1),
    "VIFp_sum_uint8": ("vifp_paper", 1),
    "AG": ("ag", 1),
}


def test_the_sheet_is_reproduced(sheet):
    rows = [row for row in sheet if row[1].shape == (SIDE, SIDE)]
    assert len(rows) >= 3
    batch = (rows * BATCH)[:BATCH]
    measured = metrics.measure_batch(*(np.stack(images) for images in list(zip(*batch, strict=True))[1:]))
    for index, (row, *_) in enumerate(batch):
        for column, (name, scale) in PUBLISHED.items():
            assert float(measured[name][index]) / scale == pytest.approx(float(row[column]), rel=1e-5), column


@pytest.mark.parametrize("part", ["msrs/test", "tno/test", "flir/val"])
def test_photographs(shared_dir, part):
    pairs = find_pairs(shared_dir / "data" / part)
    ir, vis = (read_gray(path)[:SIDE, :SIDE] for path in (pairs[0].ir, pairs[0].vis))
    sources = [image.astype(np.float32) / 255 for image in (ir, vis)]
    fused = [np.rint(255 * method(*sources)).astype(np.uint8) for method in BASELINES.values()]
    compare(np.stack(fused), *(np.stack([image] * BATCH) for image in (ir, vis)))


def test_flat_and_extreme_images_and_their_order_in_a_batch():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
    dark = rng.integers(0, 20, (SIDE, SIDE), np.uint8)
    half = np.where(np.arange(SIDE) < SIDE // 2, 255, noise).astype(np.uint8)
    black, white = np.zeros_like(noise), np.full_like(noise, 255)
    first = [
        np.stack(images) for images in ([black, white, noise, dark], [black, white, noise, dark], [black, *[noise] * 3])
    ]
    columns = compare(*first)
    compare(
        np.stack([half, noise, half, dark]), np.stack([noise, white, black, dark]), np.stack([half, black, dark, half])
    )
    # An image's values do not depend on the others.
    shuffled = metrics.measure_batch(*(np.stack([images[3], half, images[0], noise]) for images in first))
    for column, values in shuffled.items():
        np.testing.assert_allclose(values[[0, 2]], columns[column][[3, 0]], rtol=1e-5, err_msg=column)


def test_a_choice_of_columns_of_one_small_image():
    fused, ir, vis = np.random.default_rng(1).integers(0, 256, (3, 1, 48, 60), np.uint8)
    chosen = ("fmi", "sf_paper", "nabf", "ms_ssim", "mi", "ssim")
    columns = metrics.measure_batch(fused, ir, vis, columns=chosen)
    expected = metrics.measure(fused[0], ir[0], vis[0])
    assert tuple(columns) == chosen
    for column, values in columns.items():
        assert values == pytest.approx([expected[column]], rel=1e-4, nan_ok=True), column
    with pytest.raises(ValueError, match="unknown columns psnr; known are en, sf_standard"):
        metrics.measure_batch(fused, ir, vis, columns=("en", "psnr"))


def test_the_sum_of_a_large_images_levels_may_be_beyond_int32():
    fused = np.random.default_rng(0).integers(236, 256, (2917, 3011), np.uint8)
    black, white = np.zeros_like(fused), np.full_like(fused, 255)
    assert fused.sum(dtype=np.int64) > 2**31
    columns = ("sd_paper", "dark_lift", "target_keep")
    found = metrics.measure_batch(fused[None], black[None], black[None], columns)
    assert found["sd_paper"] == pytest.approx([metrics.standard_deviation(fused, protocol="paper")], rel=1e-4)
    assert found["dark_lift"] == pytest.approx([metrics.dark_lift(fused, black, black)], rel=1e-6)
    found = metrics.measure_batch(fused[None], white[None], black[None], columns)
    assert found["target_keep"] == pytest.approx([metrics.target_keep(fused, white, black)], rel=1e-6)


@pytest.mark.usefixtures("as_users_run_it")
def test_other_batches_are_refused():
    fused, ir, vis = np.zeros((3, 2, 50, 60), np.uint8)
    for wrong in (ir[:, :49], ir[0], ir.astype(np.float32)):
        with pytest.raises(ValueError, match="uint8 batches of one shape"):
            metrics.measure_batch(fused, wrong, vis)
    with pytest.raises(ValueError, match="at least 41"):
        metrics.measure_batch(fused[:, :40], ir[:, :40], vis[:, :40])
