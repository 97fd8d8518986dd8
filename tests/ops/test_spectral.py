"""The spectral transforms against float64 numpy, on spectra that are not Hermitian, odd sizes included."""

import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.ops import spectral

SIZES = pytest.mark.parametrize("size", [(16, 16), (17, 19), (18, 21), (21, 18)])


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@SIZES
def test_forward_equals_numpy(size):
    x = random((2, 3, *size))
    ours = spectral.rfft2(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(ours, np.fft.rfft2(x, norm="ortho"), atol=1e-5)


@SIZES
def test_inverse_of_a_non_hermitian_spectrum_equals_numpy(size):
    shape = (2, 3, size[0], size[1] // 2 + 1)
    z = random(shape, 1) + 1j * random(shape, 2)
    ours = spectral.irfft2(jnp.asarray(z, jnp.complex64), size)
    np.testing.assert_allclose(ours, np.fft.irfft2(z, s=size, norm="ortho"), atol=1e-5)


@SIZES
def test_inverse_ignores_what_it_must(size):
    """After the transform over H, the imaginary part of the first (and for even W the last) column has no effect."""
    shape = (1, 1, size[0], size[1] // 2 + 1)
    z = random(shape, 1) + 1j * random(shape, 2)
    columns = np.fft.ifft(z, axis=2, norm="ortho")
    for column in [0] if size[1] % 2 else [0, -1]:
        columns[..., column] = columns[..., column].real
    cleaned = np.fft.fft(columns, axis=2, norm="ortho")
    ours = [spectral.irfft2(jnp.asarray(y, jnp.complex64), size) for y in (z, cleaned)]
    np.testing.assert_allclose(ours[0], ours[1], atol=1e-5)


@SIZES
def test_round_trip(size):
    x = jnp.asarray(random((2, 3, *size)), jnp.float32)
    np.testing.assert_allclose(spectral.irfft2(spectral.rfft2(x), size), x, atol=1e-5)


def test_channels_interleave_real_and_imaginary_parts():
    z = jnp.asarray([1 + 2j, 3 + 4j], jnp.complex64)[None, :, None, None]
    np.testing.assert_array_equal(spectral.to_channels(z)[0, :, 0, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(spectral.from_channels(spectral.to_channels(z)), z)


@pytest.mark.usefixtures("as_users_run_it")
def test_spectra_of_another_size_are_refused():
    """They would silently be cut or padded."""
    with pytest.raises(ValueError, match="spectrum of"):
        spectral.irfft2(jnp.zeros((1, 1, 16, 9), jnp.complex64), (16, 18))
