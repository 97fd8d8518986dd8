"""Saliency structure loss L_SS = L_grad + L_reg (Eq. 5-7) on the auxiliary decoder's map M'."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rpfnet_jax.losses.config import LossConfig
from rpfnet_jax.losses.moments import batch_mean, check_images, maximum, mean, mean_and_deviation, rms
from rpfnet_jax.ops import Images, Scalar
from rpfnet_jax.ops.filters import sobel_magnitude

# Released code: keeps the normalisation by the maximum finite.
_MAXIMUM_EPSILON = 1e-6


def texture_mask(vis_y: Images, config: LossConfig = LossConfig()) -> Images:
    """Computes m(VIS_Y) of Eq. 6: 1 where the Sobel magnitude exceeds its mean, else 0. No gradient."""
    magnitude = jax.lax.stop_gradient(sobel_magnitude(vis_y))
    return (magnitude > mean(magnitude, config)).astype(vis_y.dtype)


def thermal_mask(ir: Images, config: LossConfig = LossConfig()) -> Images:
    """Computes T(IR) of Eq. 7: 1 where IR exceeds its mean by over one standard deviation, else 0. No gradient."""
    ir = jax.lax.stop_gradient(ir)
    center, deviation = mean_and_deviation(ir, config)
    return (ir > center + deviation).astype(ir.dtype)


def gradient_loss(aux_map: Images, ir: Images, vis_y: Images, config: LossConfig = LossConfig()) -> Scalar:
    """Computes L_grad, Eq. 6: ||s(M') - s(IR)|| - lambda1 * ||M' * m(VIS_Y)||, s being the Sobel magnitude.

    `config.saliency` = `rms`: root mean squares. `mse` (released code): mean squared difference of the magnitudes,
    each divided by its maximum, and the mean of M' * m.
    """
    check_images(aux_map, ir, vis_y)
    textured = aux_map * texture_mask(vis_y, config)
    ours, theirs = sobel_magnitude(aux_map), sobel_magnitude(ir)
    if config.saliency == "rms":
        return rms(ours - theirs, config) - config.lambda1 * rms(textured, config)
    ours, theirs = (x / (maximum(x, config) + _MAXIMUM_EPSILON) for x in (ours, theirs))
    return batch_mean(jnp.square(ours - theirs), config) - config.lambda1 * batch_mean(textured, config)


def region_loss(aux_map: Images, ir: Images, config: LossConfig = LossConfig()) -> Scalar:
    """Computes L_reg, Eq. 7: -||M' * T(IR)||, as root mean square or, in the released code, as plain mean."""
    check_images(aux_map, ir)
    hot = aux_map * thermal_mask(ir, config)
    return -rms(hot, config) if config.saliency == "rms" else -batch_mean(hot, config)


def saliency_loss(aux_map: Images, ir: Images, vis_y: Images, config: LossConfig = LossConfig()) -> Scalar:
    """Computes L_SS, Eq. 5: the sum of `gradient_loss` and `region_loss`."""
    return gradient_loss(aux_map, ir, vis_y, config) + region_loss(aux_map, ir, config)
