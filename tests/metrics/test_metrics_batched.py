"""The float32 twin against the float64 reference."""

import numpy as np
import pytest

from rpfnet_jax import metrics
from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.images import read_gray
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.metrics import batched


def compare(fused, ir, vis, rel=1e-4):
    """The twin on the batch, the reference on each of its images."""
    columns = batched.measure_batch(fused, ir, vis)
    assert tuple(columns) == batched.COLUMNS
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


@pytest.mark.usefixtures("cheap_compilation")
def test_a_batch_is_its_images():
    fused, ir, vis = np.random.default_rng(1).integers(0, 256, (3, 7, 48, 60), np.uint8)
    together = batched.measure_batch(fused, ir, vis)
    for index in (0, 5):
        alone = batched.measure_batch(*(image[index : index + 1] for image in (fused, ir, vis)))
        for column, values in alone.items():
            np.testing.assert_allclose(values[0], together[column][index], rtol=1e-5)


@pytest.mark.usefixtures("as_users_run_it")
def test_other_batches_are_refused():
    fused, ir, vis = np.zeros((3, 2, 50, 60), np.uint8)
    for wrong in (ir[:, :49], ir[0], ir.astype(np.float32)):
        with pytest.raises(ValueError, match="uint8 batches of one shape"):
            batched.measure_batch(fused, wrong, vis)
    with pytest.raises(ValueError, match="at least 41"):
        batched.measure_batch(fused[:, :40], ir[:, :40], vis[:, :40])
