"""Structure loss L_s (Eq. 13)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.moments import batch_mean, check_images
from rpfnet_jax.ops import Images, Scalar

_C1, _C2 = 0.01**2, 0.03**2
_SIGMA = 1.5
# Released code: added to the denominator of SSIM.
_DENOMINATOR_EPSILON = 1e-12


def structure_loss(fused: Images, ir: Images, vis_y: Images, config: LossConfig = LossConfig()) -> Scalar:
    """Computes L_s, Eq. 13: the sum over both sources of mean(1 - SSIM), or of mean(clip((1 - SSIM)/2, 0, 1)).

    The paper prints SSIM(F, IR) + SSIM(F, VIS_Y), which is to be maximised.
    """
    total = jnp.zeros((), fused.dtype)
    for source in (vis_y, ir):
        dissimilarity = 1 - ssim_map(fused, source, config)
        if config.ssim_loss == "half_clipped":
            dissimilarity = jnp.clip(dissimilarity / 2, 0, 1)
        total = total + batch_mean(dissimilarity, config)
    return total


def ssim_map(a: Images, b: Images, config: LossConfig = LossConfig()) -> Float[Array, "b i j 1"]:
    """Computes local SSIM (Wang et al. 2004, L = 1) under a Gaussian window of `config.ssim_window`, sigma 1.5.

    dm_pix.ssim is no substitute: it clips variances and covariances, which the released code does not, so that the
    gradients in flat regions would differ. On textured images the two agree.

    Returns:
        One value per window: (H - k + 1, W - k + 1) with `valid` padding, (H, W) with `reflect`.

    Raises:
        ValueError: the images are smaller than the window.
    """
    check_images(a, b)
    moments = jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1)
    mean_a, mean_b, aa, bb, ab = jnp.split(_blur(moments, config), 5, axis=-1)
    covariance = ab - mean_a * mean_b
    variances = aa - mean_a * mean_a + bb - mean_b * mean_b
    numerator = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    denominator = (mean_a * mean_a + mean_b * mean_b + _C1) * (variances + _C2)
    return numerator / (denominator + _DENOMINATOR_EPSILON)


def _blur(x: Array, config: LossConfig) -> Array:
    size = config.ssim_window
    if config.ssim_padding == "reflect":
        half = size // 2
        x = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)), mode="reflect")
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    if min(height, width) < 1:
        raise ValueError(f"images of {x.shape[1]}x{x.shape[2]} are smaller than the SSIM window of {size}")
    offsets = np.arange(size) - size // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    taps = [float(tap) for tap in window / window.sum()]
    # Shifted sums, which XLA can fuse into one pass for each direction.
    x = sum((tap * x[:, i : i + height] for i, tap in enumerate(taps)), start=jnp.zeros((), x.dtype))
    return sum((tap * x[:, :, i : i + width] for i, tap in enumerate(taps)), start=jnp.zeros((), x.dtype))
