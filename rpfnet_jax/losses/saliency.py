"""Saliency structure loss L_SS = L_grad + L_reg (Eq. 5-7) on the auxiliary decoder's map M'."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.moments import batch_mean, maximum, mean, mean_and_deviation, rms
from rpfnet_jax.ops.filters import sobel_magnitude

# Released code: keeps the normalisation by the maximum finite.
_MAXIMUM_EPSILON = 1e-6


def texture_mask(vis_y: Float[Array, "b h w 1"], config: LossConfig = LossConfig()) -> Float[Array, "b h w 1"]:
    """m(VIS_Y) of Eq. 6: 1 where the Sobel magnitude of VIS_Y exceeds its mean, else 0. No gradient."""
    magnitude = jax.lax.stop_gradient(sobel_magnitude(vis_y))
    return (magnitude > mean(magnitude, config)).astype(vis_y.dtype)


def thermal_mask(ir: Float[Array, "b h w 1"], config: LossConfig = LossConfig()) -> Float[Array, "b h w 1"]:
    """T(IR) of Eq. 7: 1 where IR exceeds its mean by more than one standard deviation, else 0. No gradient."""
    ir = jax.lax.stop_gradient(ir)
    center, deviation = mean_and_deviation(ir, config)
    return (ir > center + deviation).astype(ir.dtype)


def gradient_loss(
    aux_map: Float[Array, "b h w 1"],
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    config: LossConfig = LossConfig(),
) -> Float[Array, ""]:
    """L_grad, Eq. 6: ||s(M') - s(IR)|| - lambda1 * ||M' * m(VIS_Y)||, s the Sobel magnitude.

    `config.saliency` = `rms`: root mean squares. `mse` (released code): mean squared difference of the magnitudes,
    each divided by its maximum, and the mean of M' * m.
    """
    textured = aux_map * texture_mask(vis_y, config)
    ours, theirs = sobel_magnitude(aux_map), sobel_magnitude(ir)
    if config.saliency == "rms":
        return rms(ours - theirs, config) - config.lambda1 * rms(textured, config)
    ours, theirs = _over_maximum(ours, config), _over_maximum(theirs, config)
    return batch_mean(jnp.square(ours - theirs), config) - config.lambda1 * batch_mean(textured, config)


def region_loss(
    aux_map: Float[Array, "b h w 1"], ir: Float[Array, "b h w 1"], config: LossConfig = LossConfig()
) -> Float[Array, ""]:
    """L_reg, Eq. 7: -||M' * T(IR)||, as root mean square or, released code, as plain mean."""
    hot = aux_map * thermal_mask(ir, config)
    return -rms(hot, config) if config.saliency == "rms" else -batch_mean(hot, config)


def saliency_loss(
    aux_map: Float[Array, "b h w 1"],
    ir: Float[Array, "b h w 1"],
    vis_y: Float[Array, "b h w 1"],
    config: LossConfig = LossConfig(),
) -> Float[Array, ""]:
    """L_SS, Eq. 5: the sum of `gradient_loss` and `region_loss`; all images in [0, 1]."""
    return gradient_loss(aux_map, ir, vis_y, config) + region_loss(aux_map, ir, config)


def _over_maximum(x: Array, config: LossConfig) -> Array:
    return x / (maximum(x, config) + _MAXIMUM_EPSILON)
