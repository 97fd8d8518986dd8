"""The closed form of a batch norm's gradient against the one that JAX derives from the definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.model.layers import ConvBlock, NormContext
from rpfnet_jax.ops.normalisation import EPSILON, batch_norm


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
