"""The convolution and its kernel gradient against XLA's own."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.ops.convolution import conv2d, kernel_gradient, mix_channels, split_phases


def xla(x, kernel, dilation=1):
    dimensions = ("NHWC", "HWIO", "NHWC")
    pad = (kernel.shape[0] - 1) * dilation // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(pad, pad)] * 2, rhs_dilation=(dilation, dilation), dimension_numbers=dimensions
    )


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(function, x, kernel, dy):
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(dy)


@pytest.mark.parametrize(
    ("size", "dilation", "channels", "features"), [(1, 1, 5, 3), (3, 1, 4, 6), (3, 3, 2, 4), (3, 5, 3, 2), (7, 1, 4, 1)]
)
@pytest.mark.parametrize("image", [(16, 16), (17, 19)])
def test_values_and_gradients_equal_xlas(size, dilation, channels, features, image):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, *image, channels))
    kernel = jax.random.normal(keys[1], (size, size, channels, features))
    dy = jax.random.normal(keys[2], (2, *image, features))
    ours, *gradients = value_and_gradients(functools.partial(conv2d, dilation=dilation), x, kernel, dy)
    theirs, *expected = value_and_gradients(functools.partial(xla, dilation=dilation), x, kernel, dy)
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
    # Narrow kernels use XLA's gradient; the product is correct for them, too.
    gradients.append(jax.jit(kernel_gradient, static_argnums=(2, 3))(x, dy, size, dilation))
    for gradient, wanted in zip(gradients, [*expected, expected[1]], strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=2e-4 * float(jnp.abs(wanted).max()))


def test_other_backends_keep_xlas_own_gradient():
    x, kernel = jnp.ones((1, 16, 16, 4)), jnp.ones((3, 3, 4, 4))
    gradient = jax.jit(jax.grad(lambda k: conv2d(x, k).sum()))
    cpu, cuda = (
        gradient.trace(kernel).lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")
        for platform in ("cpu", "cuda")
    )
    assert cuda > cpu


@pytest.mark.parametrize("dilation", [3, 5])
def test_the_gradient_of_a_dilated_kernel_is_that_of_an_undilated_one_over_the_phases(dilation):
    generator = np.random.default_rng(0)
    x, dy = (jnp.asarray(generator.normal(size=(2, 17, 20, channels)), jnp.float32) for channels in (3, 4))

    @functools.partial(jax.jit, static_argnums=2)
    def gradient(x, dy, dilation):
        return jax.vjp(lambda kernel: xla(x, kernel, dilation), jnp.zeros((3, 3, 3, 4)))[1](dy)[0]

    ours = gradient(split_phases(x, dilation), split_phases(dy, dilation), 1)
    wanted = gradient(x, dy, dilation)
    np.testing.assert_allclose(ours, wanted, atol=1e-5 * float(jnp.abs(wanted).max()))


def lowered(function, platform, *inputs):
    return jax.jit(function).trace(*inputs).lower(lowering_platforms=(platform,)).as_text()


def test_on_cuda_no_gradient_of_a_kernel_has_strides():
    """XLA would make it a forward convolution with a window as large as the image."""
    x, kernel = jnp.ones((1, 16, 16, 4)), jnp.ones((3, 3, 4, 4))
    gradient = jax.grad(lambda kernel: conv2d(x, kernel, dilation=3).sum())
    assert "stride = [3, 3]" in lowered(gradient, "tpu", kernel)
    assert "stride = [3, 3]" not in lowered(gradient, "cuda", kernel)


@pytest.mark.parametrize(("precision", "config"), [("float32", "HIGHEST"), ("tf32", "DEFAULT")])
@pytest.mark.parametrize("size", [1, 3])
def test_only_tf32_leaves_the_multiplication_to_tensor_cores(precision, config, size):
    x, kernel = jnp.ones((1, 16, 16, 4)), jnp.ones((size, size, 4, 4))
    gradients = jax.value_and_grad(lambda x, kernel: conv2d(x, kernel, precision=precision).sum(), (0, 1))
    assert set(re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", lowered(gradients, "cuda", x, kernel))) == {config}


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (3, 5), (7, 1)])
def test_bfloat16_rounds_what_is_multiplied_and_nothing_else(size, dilation):
    """Values and both gradients are those of float32 on rounded operands."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 17, 19, 4))
    kernel = jax.random.normal(keys[1], (size, size, 4, 6))
    dy = jax.random.normal(keys[2], (2, 17, 19, 6))

    def rounded(array):
        return array.astype(jnp.bfloat16).astype(jnp.float32)

    rounding = functools.partial(conv2d, dilation=dilation, precision="bfloat16")
    exact = functools.partial(conv2d, dilation=dilation)
    ours, *gradients = value_and_gradients(rounding, x, kernel, dy)
    theirs, *expected = value_and_gradients(exact, rounded(x), rounded(kernel), rounded(dy))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert float(jnp.abs(ours - exact(x, kernel)).max()) > 1e-3
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient.dtype == jnp.float32
        np.testing.assert_allclose(gradient, wanted, atol=2e-5 * float(jnp.abs(wanted).max()))


def test_mixing_channels_that_come_first_equals_the_product_and_its_gradients():
    keys = jax.random.split(jax.random.key(0), 3)
    x, dy = (jax.random.normal(key, (3, channels, 7, 9)) for key, channels in zip(keys, (6, 4), strict=False))
    weights = jax.random.normal(keys[2], (6, 4))
    ours, *gradients = value_and_gradients(mix_channels, x, weights, dy)
    theirs, *expected = value_and_gradients(lambda x, weights: jnp.einsum("bchw,cd->bdhw", x, weights), x, weights, dy)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=1e-4)


@pytest.mark.usefixtures("as_users_run_it")
def test_other_ranks_are_refused():
    with pytest.raises(AssertionError, match="rank"):
        conv2d(jnp.zeros((16, 16, 4)), jnp.zeros((1, 1, 4, 4)))
