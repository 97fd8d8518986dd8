"""The starlet transform against SciPy's convolutions."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import convolve1d

from rpfnet_jax.ops.filters import details

TAPS = np.array([1, 4, 6, 4, 1]) / 16


def reference(image, scales):
    found = []
    for scale in range(scales):
        kernel = np.zeros(4 * 2**scale + 1)
        kernel[:: 2**scale] = TAPS
        smooth = image
        for axis in (0, 1):
            smooth = convolve1d(smooth, kernel, axis, mode="reflect")
        found.append(image - smooth)
        image = smooth
    return np.stack(found, -1), image


@pytest.mark.parametrize(("height", "width", "scales"), [(16, 16, 1), (19, 40, 3), (33, 17, 4)])
def test_equals_a_convolution_with_mirrored_borders(height, width, scales):
    image = np.random.default_rng(0).random((height, width))
    expected, smooth = reference(image, scales)
    found = np.asarray(details(jnp.asarray(image, jnp.float32)[None, ..., None], scales))[0]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    # Together with the last smoothing they are the image.
    np.testing.assert_allclose(found.sum(-1) + smooth, image, atol=5e-6)


def test_flat_images_have_no_details():
    assert np.abs(details(jnp.full((2, 16, 17, 1), 0.3), 4)).max() < 1e-6


@pytest.mark.parametrize("scales", [1, 3])
def test_images_of_a_batch_do_not_meet(scales):
    images = jnp.asarray(np.random.default_rng(0).random((3, 20, 24, 1), np.float32))
    np.testing.assert_array_equal(details(images, scales)[1:2], details(images[1:2], scales))
