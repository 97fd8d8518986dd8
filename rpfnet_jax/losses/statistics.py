"""Means, deviations and the Sobel operator that masks and losses share."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses.config import Scope

# Under the root of the Sobel magnitude (released code): keeps its gradient finite on flat regions.
SOBEL_EPSILON = 1e-6
RMS_EPSILON = 1e-12


def axes(scope: Scope) -> tuple[int, ...]:
    """The axes of a (B, H, W, 1) array that statistics of this scope reduce."""
    return (1, 2, 3) if scope == "image" else (0, 1, 2, 3)


def mean_and_deviation(
    x: Float[Array, "b h w 1"], scope: Scope
) -> tuple[Float[Array, "n 1 1 1"], Float[Array, "n 1 1 1"]]:
    """mu and sigma over each image (population) or over the batch (ddof = 1, as torch.std); n = B or 1."""
    ddof = 0 if scope == "image" else 1
    return jnp.mean(x, axes(scope), keepdims=True), jnp.std(x, axes(scope), keepdims=True, ddof=ddof)


def rms(x: Float[Array, "b h w 1"], scope: Scope) -> Float[Array, ""]:
    """The norm ||.||_2 of Eq. 6-7: root mean square per image (or over the batch), averaged over the images.

    A plain root of sums would grow with the picture and drown the other terms.
    """
    return jnp.mean(jnp.sqrt(jnp.mean(jnp.square(x), axes(scope)) + RMS_EPSILON))


def sobel_magnitude(x: Float[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
    """s(x) = sqrt(gx^2 + gy^2 + 1e-6) with the unnormalised 3x3 Sobel operator and zero padding."""
    height, width = x.shape[1], x.shape[2]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Shifted sums instead of a convolution: XLA fuses them into one pass over the image.
    column = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    row = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    gx = column[:, :, 2:] - column[:, :, :width]
    gy = row[:, 2:] - row[:, :height]
    return jnp.sqrt(jnp.square(gx) + jnp.square(gy) + SOBEL_EPSILON)
