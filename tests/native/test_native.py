"""The native convolutions against XLA's."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax import native
from rpfnet_jax.ops.convolution import conv2d
from tests.ops.test_convolution import xla

built = pytest.mark.skipif(not native.suits((3, 3, 32, 32)), reason=f"native convolutions: {native.STATUS}")


def operands(*sizes, channels, features):
    rng = np.random.default_rng(0)
    return rng.standard_normal((*sizes, channels), np.float32), rng.standard_normal(
        (3, 3, channels, features), np.float32
    )


@built
@pytest.mark.parametrize("widest", [4, 8, 16])
@pytest.mark.parametrize(
    ("channels", "features"), [(1, 32), (2, 8), (7, 7), (8, 8), (16, 1), (32, 16), (24, 48), (48, 24), (3, 5)]
)
def test_every_width_and_number_of_channels(widest, channels, features, monkeypatch):
    """Sizes from below one tile to many, odd ones among them, and each of the network's dilations."""
    monkeypatch.setattr(native, "WIDEST", widest)
    run = jax.jit(native.convolve, static_argnames="dilation")
    for sizes, dilation in (((2, 17, 19), 1), ((1, 21, 34), 3), ((1, 16, 16), 5), ((1, 3, 1), 2)):
        x, kernel = operands(*sizes, channels=channels, features=features)
        expected = np.asarray(xla(x, kernel, dilation))
        found = run(x, kernel, dilation=dilation)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@built
@pytest.mark.parametrize("widest", [4, 8, 16])
@pytest.mark.parametrize(("size", "channels"), [(7, 16), (7, 4), (5, 6), (7, 24)])
def test_one_map_from_a_larger_kernel(widest, size, channels, monkeypatch):
    monkeypatch.setattr(native, "WIDEST", widest)
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((size, size, channels, 1), np.float32)
    for shape in ((2, 19, 33), (1, 3, 2), (1, 16, 16)):
        x = rng.standard_normal((*shape, channels), np.float32)
        expected = np.asarray(xla(x, kernel))
        np.testing.assert_allclose(jax.jit(native.convolve)(x, kernel), expected, rtol=0, atol=1e-5 * expected.max())


@built
def test_bias_and_positive_part_have_their_gradients():
    """With values of exactly 0 among them, where the derivative is 0."""
    x, kernel = map(jnp.asarray, operands(2, 17, 21, channels=4, features=5))
    x, bias = x.at[0].set(0), jnp.asarray([-1.0, 0, 0.5, 1, 0])

    def loss(function):
        return jax.jit(jax.value_and_grad(lambda *arrays: (function(*arrays) ** 2).sum(), (0, 1, 2)))

    found = loss(lambda *arrays: conv2d(*arrays, relu=True))(x, kernel, bias)
    expected = loss(lambda x, kernel, bias: jax.nn.relu(xla(x, kernel) + bias))(x, kernel, bias)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-2)


@built
def test_values_that_are_not_finite_reach_the_same_pixels_as_in_xla():
    x, kernel = operands(1, 40, 40, channels=16, features=8)
    x[0, 5, 5, 3], x[0, 20, 20, 0], x[0, 12, 33, 1] = np.inf, np.nan, -np.inf
    # Finite itself, and beyond float32 in the transforms.
    x[0, 30, 30, 2] = 1e38
    kernel /= 8
    found, expected = (np.asarray(jax.jit(f)(x, kernel)) for f in (native.convolve, xla))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-4)


@built
def test_many_calls_at_once_give_what_one_does():
    run = jax.jit(lambda x, kernel: jax.grad(lambda x: (conv2d(conv2d(x, kernel), kernel) ** 2).sum())(x))
    x, kernel = operands(2, 64, 61, channels=16, features=16)
    expected = np.asarray(run(x, kernel))
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: np.asarray(run(x, kernel)), range(200)):
            np.testing.assert_array_equal(result, expected)


@built
def test_programs_for_other_machines_have_none_of_it():
    x, kernel = map(jnp.asarray, operands(1, 16, 16, channels=4, features=4))
    step = jax.jit(jax.grad(lambda kernel: conv2d(conv2d(x, kernel), kernel).sum()))

    def target(platform):
        return "rpfnet_winograd" in step.trace(kernel).lower(lowering_platforms=(platform,)).as_text()

    assert target("cpu")
    assert not target("cuda")
    assert not target("tpu")
    with native.without_native_code():
        assert not target("cpu")
    assert target("cpu")


def test_what_is_narrow_or_not_3x3_is_left_to_xla():
    assert not native.suits((1, 1, 32, 32))
    assert not native.suits((7, 7, 2, 1))
    assert not native.suits((7, 7, 16, 2))
    assert not native.suits((3, 3, 1, 32))


def test_it_can_be_switched_off():
    program = "from rpfnet_jax import native; print(native.STATUS, native.suits((3, 3, 32, 32)))"
    environment = {**os.environ, "RPFNET_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "switched off (RPFNET_NATIVE=0) False\n", done.stderr


def test_results_are_those_of_xla_within_float32_rounding_through_a_network():
    """As deep as RPFNet's three stages: errors do not add up."""
    x, kernel = operands(1, 48, 40, channels=16, features=16)
    kernel /= 12

    def chain(convolve):
        maps = jnp.asarray(x)
        for _ in range(15):
            maps = jax.nn.relu(convolve(maps, kernel))
        return maps

    found, expected = (np.asarray(jax.jit(lambda f=f: chain(f))()) for f in (conv2d, xla))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.max())
