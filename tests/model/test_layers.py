"""The norm layer against torch's batch normalisation, written out in float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.model.layers import ChannelAttention, ConvBlock, NormContext, StageNorm, check_norm

X = jax.random.normal(jax.random.key(0), (3, 8, 10, 4)) * jnp.arange(1.0, 5.0) + 100.0


def normed(mode, variables=None, x=X, stage=1, **options):
    layer = StageNorm(rows=2)
    variables = variables or layer.init(jax.random.key(0), x, NormContext("batch"))
    return layer.apply(variables, x, NormContext(mode, stage=stage), **options)


def test_batch_mode_updates_the_statistics_of_its_stage_as_torch_does():
    y, update = normed("batch", mutable=["batch_stats"])
    x = np.asarray(X, np.float64)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    count = x.size // 4
    stats = update["batch_stats"]
    np.testing.assert_allclose(stats["mean"][1], 0.1 * mean, rtol=1e-6)
    np.testing.assert_allclose(stats["var"][1], 0.9 + 0.1 * var * count / (count - 1), rtol=1e-5)
    # The other stage's row is as it was.
    np.testing.assert_array_equal(stats["mean"][0], np.zeros(4))
    np.testing.assert_array_equal(stats["var"][0], np.ones(4))


def test_statistics_are_left_alone_when_they_are_not_mutable():
    layer = StageNorm(rows=2)
    variables = layer.init(jax.random.key(0), X, NormContext("batch"))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros((2, 4)))
    assert normed("batch").shape == X.shape


def test_image_mode_uses_each_images_own_statistics():
    x = np.asarray(X, np.float64)
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    np.testing.assert_allclose(normed("image"), (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)


@pytest.mark.parametrize("mode", ["batch", "image", "running", "adaptive"])
def test_channels_may_come_first(mode):
    variables = StageNorm(rows=2).init(jax.random.key(0), X, NormContext("batch"))
    first = StageNorm(rows=2, channel_axis=1)
    statistics, x = NormContext(mode, stage=1), jnp.moveaxis(X, -1, 1)
    y, update = first.apply(variables, x, statistics, mutable=["batch_stats"])
    expected, expected_update = normed(mode, variables, mutable=["batch_stats"])
    np.testing.assert_allclose(jnp.moveaxis(y, 1, -1), expected, rtol=1e-5, atol=1e-4)
    for name, value in update["batch_stats"].items():
        np.testing.assert_allclose(value, expected_update["batch_stats"][name], rtol=1e-5)


def test_only_1x1_convolutions_take_channels_first():
    block = ConvBlock(6, kernel=1, channel_axis=1)
    x, statistics = jnp.moveaxis(X, -1, 1), NormContext("image")
    variables = block.init(jax.random.key(0), x, statistics)
    last = ConvBlock(6, kernel=1).apply(variables, X, statistics)
    np.testing.assert_allclose(jnp.moveaxis(block.apply(variables, x, statistics), 1, -1), last, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="kernel of 3"):
        ConvBlock(6, kernel=3, channel_axis=1).init(jax.random.key(0), x, statistics)


@pytest.mark.parametrize("stage", [0, 1])
def test_running_mode_uses_the_row_of_the_stage(stage):
    stats = {"mean": jnp.array([[0.0] * 4, [100.0] * 4]), "var": jnp.array([[1.0] * 4, [4.0] * 4])}
    affine = {"scale": jnp.full(4, 2.0), "bias": jnp.full(4, 3.0)}
    y = normed("running", {"params": affine, "batch_stats": stats}, stage=stage)
    expected = (np.asarray(X, np.float64) - [0, 100][stage]) / np.sqrt([1, 4][stage] + 1e-5) * 2 + 3
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


def test_adaptive_mode_blends_mean_linearly_and_deviation_geometrically():
    stats = {"mean": jnp.full((2, 4), 90.0), "var": jnp.full((2, 4), 9.0)}
    layer = StageNorm(rows=2)
    affine = {"scale": jnp.ones(4), "bias": jnp.zeros(4)}
    y = layer.apply({"params": affine, "batch_stats": stats}, X, NormContext("adaptive", adapt=0.3, stage=1))
    x = np.asarray(X, np.float64)
    mean = 0.3 * x.mean((1, 2), keepdims=True) + 0.7 * 90
    deviation = np.sqrt(x.var((1, 2), keepdims=True) + 1e-5) ** 0.3 * np.sqrt(9 + 1e-5) ** 0.7
    np.testing.assert_allclose(y, (x - mean) / deviation, atol=1e-4)


def test_variance_keeps_its_digits_far_from_zero():
    x = X * 0.1 + 1e3
    y = normed("image", x=x)
    np.testing.assert_allclose(jnp.std(y, axis=(1, 2)), 1.0, rtol=2e-2)


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="batch, image, running, adaptive"):
        check_norm("instance")


def test_channel_attention_scales_whole_channels():
    layer = ChannelAttention()
    x = 1 + jnp.abs(X - 100) / 10
    y, _ = layer.init_with_output(jax.random.key(1), x)
    gain = y / x
    np.testing.assert_allclose(gain, jnp.broadcast_to(gain[:, :1, :1], gain.shape), rtol=1e-5)
    assert float(gain.min()) > 0
    assert float(gain.max()) < 1
