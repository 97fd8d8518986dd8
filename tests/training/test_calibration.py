"""Calibrated running statistics: laws on real patches."""

import chex
import numpy as np
import pytest

from rpfnet_jax.model import ModelConfig, RPFNet
from rpfnet_jax.training import calibrate
from tests.networks import network_variables


@pytest.fixture(scope="module")
def patches(flir_patches):
    """Four 8-bit patches of 24x28, as the loader gives them."""
    ir, vis = (np.rint(255 * side).astype(np.uint8) for side in flir_patches)
    ir, vis = (np.concatenate([side[:, :24, :28], side[:, 24:, 28:]]) for side in (ir, vis))
    return {"ir": ir, "vis": vis, "index": np.arange(4, dtype=np.int32)}


@pytest.fixture(scope="module")
def network():
    model = RPFNet(ModelConfig.preset("released", channels=8, stages=2))
    return model, network_variables(model.config)


def split(batch, size):
    return [{key: value[i : i + size] for key, value in batch.items()} for i in range(0, 4, size)]


def test_statistics_of_one_patch_make_running_equal_image_mode(network, patches):
    model, variables = network
    (one, *_) = split(patches, 1)
    calibrated, count = calibrate(model, variables, [one])
    assert count == 1
    ir, vis = one["ir"] / np.float32(255), one["vis"] / np.float32(255)
    image, running = (model.apply(calibrated, ir, vis, norm=norm) for norm in ("image", "running"))
    # Running variances are unbiased, image statistics are not: a factor of 1 + 1/672.
    np.testing.assert_allclose(running, image, atol=2e-3)
    before = model.apply(variables, ir, vis, norm="running")
    assert np.abs(before - image).max() > 0.05


@pytest.mark.parametrize("size", [1, 3])
def test_result_does_not_depend_on_the_batches(network, patches, size):
    model, variables = network
    together, _ = calibrate(model, variables, [patches])
    apart, count = calibrate(model, variables, split(patches, size))
    assert count == 4
    chex.assert_trees_all_close(apart, together, rtol=1e-4, atol=1e-6)


def test_values_are_mean_and_unbiased_variance_over_all_pixels(network, patches):
    model, variables = network
    calibrated, _ = calibrate(model, variables, split(patches, 2), norm="batch")
    kernel = np.float64(variables["params"]["residual_stem"]["conv"]["kernel"])
    bias = np.float64(variables["params"]["residual_stem"]["conv"]["bias"])
    difference = np.pad((patches["ir"] / 255 - patches["vis"] / 255)[..., 0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(difference, (3, 3), axis=(1, 2))
    values = (np.einsum("bhwyx,yxc->bhwc", windows, kernel[:, :, 0]) + bias).reshape(-1, 8)
    stem = calibrated["batch_stats"]["residual_stem"]["norm"]
    np.testing.assert_allclose(stem["mean"][0], values.mean(0), atol=1e-5)
    np.testing.assert_allclose(stem["var"][0], values.var(0, ddof=1), rtol=1e-4)


def test_stages_differ_and_what_is_never_evaluated_stays(network, patches):
    model, variables = network
    calibrated, _ = calibrate(model, variables, [patches])
    rpm = calibrated["batch_stats"]["stage"]["rpm"]
    mean = rpm["dilated_1"]["norm"]["mean"]
    assert np.abs(mean[0] - mean[1]).max() > 1e-2
    chex.assert_trees_all_equal(rpm["spatial_attention"], variables["batch_stats"]["stage"]["rpm"]["spatial_attention"])
    chex.assert_trees_all_equal(calibrated["params"], variables["params"])


def test_nothing_to_measure_is_an_error(network):
    with pytest.raises(ValueError, match="at least one patch"):
        calibrate(*network, [])
