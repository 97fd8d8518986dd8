"""The closed form of a batch norm's gradient against the one that JAX derives from the definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.model.layers import ConvBlock, NormContext
from rpfnet_jax.ops.normalisation import EPSILON, batch_norm, moments, moments_in_one_pass


def definition(x, scale, bias, axes):
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    return (x - mean) / jnp.sqrt(var + EPSILON) * scale + bias


@pytest.mark.parametrize(("axes", "shape"), [((0, 1, 2), (5,)), ((0, 2, 3), (5, 1, 1))])
def test_value_and_gradient_are_those_of_the_definition(axes, shape):
    keys = jax.random.split(jax.random.key(0), 4)
    x = 3 * jax.random.normal(keys[0], (3, 9, 11, 5)) + jnp.arange(5.0)
    x = x if axes == (0, 1, 2) else jnp.moveaxis(x, -1, 1)
    scale, bias = (jax.random.normal(key, shape) for key in keys[1:3])
    dy = jax.random.normal(keys[3], x.shape)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, *inputs):
        y, pull = jax.vjp(function, *inputs)
        return y, *pull(dy)

    ours, *gradients = value_and_gradients(lambda *inputs: batch_norm(*inputs, axes)[0], x, scale, bias)
    theirs, *expected = value_and_gradients(lambda *inputs: definition(*inputs, axes), x, scale, bias)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient.shape == wanted.shape
        np.testing.assert_allclose(gradient, wanted, atol=1e-5 * float(jnp.abs(wanted).max()))


@pytest.mark.usefixtures("as_users_run_it")
def test_affine_parameters_that_lie_along_the_pixels_are_refused():
    """Channels come first and are as many as the columns, so that the shapes would broadcast."""
    with pytest.raises(AssertionError, match="broadcast"):
        batch_norm(jnp.ones((2, 4, 6, 4)), jnp.ones(4), jnp.zeros(4), (0, 2, 3))


def test_the_bias_before_a_batch_norm_moves_nothing_but_the_running_mean():
    block, context = ConvBlock(4), NormContext("batch")
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 3))
    variables = jax.jit(block.init)(jax.random.key(1), x, context)

    @jax.jit
    def run(bias):
        params = {**variables["params"], "conv": {**variables["params"]["conv"], "bias": bias}}
        return block.apply({**variables, "params": params}, x, context, mutable=["batch_stats"])

    shift = jnp.array([1.0, -2.0, 3.0, 0.5])
    bias = variables["params"]["conv"]["bias"]
    (y, first), (moved_y, second) = run(bias), run(bias + shift)
    np.testing.assert_array_equal(y, moved_y)
    means = [update["batch_stats"]["norm"]["mean"][0] for update in (first, second)]
    np.testing.assert_allclose(means[1] - means[0], 0.1 * shift, atol=1e-6)
    np.testing.assert_array_equal(jax.grad(lambda bias: jnp.square(run(bias)[0]).sum())(bias), 0.0)


def far_from_zero(shape):
    """Channels whose mean is up to 300 times their deviation, and one that is constant."""
    x = np.random.default_rng(0).normal(size=shape) + np.array([0, 1, -30, 300, 7])
    x[..., 4] = 7
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2), (0, 2, 3), (2, 3)])
def test_one_pass_loses_no_more_digits_than_two(axes):
    x = far_from_zero((3, 17, 19, 5))
    x = x if 1 in axes else jnp.moveaxis(x, -1, 1)
    exact = np.asarray(x, np.float64)
    mean, var = jax.jit(moments_in_one_pass, static_argnums=1)(x, axes)
    np.testing.assert_allclose(mean, exact.mean(axes, keepdims=True), rtol=3e-6, atol=1e-6)
    np.testing.assert_allclose(var, exact.var(axes, keepdims=True), rtol=3e-6, atol=1e-9)


def test_the_devices_results_are_combined_in_one_reduction_to_those_of_the_whole_batch():
    x = far_from_zero((4, 9, 11, 5))
    # A mean of its own for each device.
    x = x + jnp.arange(4.0).reshape(4, 1, 1, 1)

    @functools.partial(jax.vmap, axis_name="devices")
    def share(x):
        return moments_in_one_pass(x, (0, 1, 2), "devices")

    each = share(x.reshape(2, 2, 9, 11, 5))
    for ours, wanted in zip(each, moments(x, (0, 1, 2)), strict=True):
        for part in ours:
            np.testing.assert_allclose(part, wanted, rtol=3e-6, atol=1e-5)
