"""The starlet transform against SciPy's convolutions, and the Sobel operator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import convolve1d

from rpfnet_jax.ops import filters

TAPS = np.array([1, 4, 6, 4, 1]) / 16


def reference(image, scales):
    details = []
    for scale in range(scales):
        kernel = np.zeros(4 * 2**scale + 1)
        kernel[:: 2**scale] = TAPS
        smooth = image
        for axis in (0, 1):
            smooth = convolve1d(smooth, kernel, axis, mode="reflect")
        details.append(image - smooth)
        image = smooth
    return np.stack(details, -1), image


@pytest.mark.parametrize(("height", "width", "scales"), [(16, 16, 1), (19, 40, 3), (33, 17, 4)])
def test_starlet_equals_a_convolution_with_mirrored_borders(height, width, scales):
    image = np.random.default_rng(0).random((height, width))
    expected, smooth = reference(image, scales)
    details = np.asarray(filters.starlet(jnp.asarray(image, jnp.float32)[None, ..., None], scales))[0]
    np.testing.assert_allclose(details, expected, atol=2e-6)
    # The image is the sum of its details and the last smoothing.
    np.testing.assert_allclose(details.sum(-1) + smooth, image, atol=5e-6)


def test_flat_images_have_no_details():
    assert np.abs(filters.starlet(jnp.full((2, 16, 17, 1), 0.3), 4)).max() < 1e-6


@pytest.mark.parametrize("scales", [1, 3])
def test_details_do_not_depend_on_the_other_images_of_a_batch(scales):
    images = jnp.asarray(np.random.default_rng(0).random((3, 20, 24, 1), np.float32))
    np.testing.assert_array_equal(filters.starlet(images, scales)[1:2], filters.starlet(images[1:2], scales))


def test_sobel_magnitude_of_a_ramp():
    ramp = jnp.broadcast_to(jnp.arange(8.0)[None, None, :, None], (1, 6, 8, 1))
    inside = jax.jit(filters.sobel_magnitude)(ramp)[0, 1:-1, 1:-1, 0]
    np.testing.assert_allclose(inside, 8.0, rtol=1e-6)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(AssertionError, match="shape"):
        filters.starlet(jnp.zeros(shape), 1)
