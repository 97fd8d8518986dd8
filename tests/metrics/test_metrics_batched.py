"""The float32 twin against the float64 reference."""

import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax import metrics
from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.images import read_gray
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.metrics import registry
from rpfnet_jax.metrics.statistics import histograms, statistics


def compare(fused, ir, vis, rel=1e-4):
    """The twin on the batch, the reference on each of its images."""
    columns = registry.measure_batch(fused, ir, vis)
    assert tuple(columns) == registry.BATCH_COLUMNS
    for index, triple in enumerate(zip(fused, ir, vis, strict=True)):
        expected = metrics.measure(*triple)
        for column, values in columns.items():
            assert values.dtype == np.float32
            assert values.shape == (len(fused),)
            value = pytest.approx(expected[column], rel=rel, abs=1e-6, nan_ok=True)
            assert float(values[index]) == value, (index, column)


@pytest.mark.parametrize("part", ["msrs/test", "tno/test", "flir/val"])
def test_photographs(shared_dir, part):
    pairs = find_pairs(shared_dir / "data" / part)
    # Large enough for MS-SSIM, and of one size: each would be compiled.
    ir, vis = (read_gray(path)[:176, :200] for path in (pairs[-1].ir, pairs[-1].vis))
    sources = [image.astype(np.float32) / 255 for image in (ir, vis)]
    fused = [np.rint(255 * method(*sources)).astype(np.uint8) for method in BASELINES.values()]
    compare(np.stack(fused), *(np.stack([image] * len(fused)) for image in (ir, vis)))


@pytest.mark.usefixtures("cheap_compilation")
def test_flat_and_extreme_pictures():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (48, 60), np.uint8)
    dark = rng.integers(0, 20, (48, 60), np.uint8)
    half = np.where(np.arange(60) < 30, 255, noise).astype(np.uint8)
    black, white = np.zeros_like(noise), np.full_like(noise, 255)
    fused = np.stack([black, white, noise, dark, half, noise, half])
    ir = np.stack([black, white, noise, dark, noise, white, black])
    vis = np.stack([black, noise, noise, noise, half, black, dark])
    compare(fused, ir, vis)


def test_the_sum_of_a_large_pictures_levels_may_be_beyond_int32():
    fused = np.random.default_rng(0).integers(236, 256, (2917, 3011), np.uint8)
    black, white = np.zeros_like(fused), np.full_like(fused, 255)
    assert fused.sum(dtype=np.int64) > 2**31
    columns = {}
    for part in (statistics, histograms):
        columns |= part(*(jnp.asarray(image[None]) for image in (fused, black, black)))
    assert columns["sd_paper"][0] == pytest.approx(metrics.standard_deviation(fused, protocol="paper"), rel=1e-4)
    assert columns["dark_lift"][0] == pytest.approx(metrics.dark_lift(fused, black, black), rel=1e-6)
    keep = histograms(*(jnp.asarray(image[None]) for image in (fused, white, black)))["target_keep"]
    assert keep[0] == pytest.approx(metrics.target_keep(fused, white, black), rel=1e-6)


@pytest.mark.usefixtures("cheap_compilation")
def test_a_batch_is_its_images():
    fused, ir, vis = np.random.default_rng(1).integers(0, 256, (3, 7, 48, 60), np.uint8)
    together = registry.measure_batch(fused, ir, vis)
    for index in (0, 5):
        alone = registry.measure_batch(*(image[index : index + 1] for image in (fused, ir, vis)))
        for column, values in alone.items():
            np.testing.assert_allclose(values[0], together[column][index], rtol=1e-5)


@pytest.mark.usefixtures("as_users_run_it")
def test_other_batches_are_refused():
    fused, ir, vis = np.zeros((3, 2, 50, 60), np.uint8)
    for wrong in (ir[:, :49], ir[0], ir.astype(np.float32)):
        with pytest.raises(ValueError, match="uint8 batches of one shape"):
            registry.measure_batch(fused, wrong, vis)
    with pytest.raises(ValueError, match="at least 41"):
        registry.measure_batch(fused[:, :40], ir[:, :40], vis[:, :40])
