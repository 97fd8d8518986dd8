"""FDFM, the Frequency Domain Fusion Module (Eq. 4)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import ConvBlock, NormContext
from rpfnet_jax.ops import spectral


class FDFM(nn.Module):
    """Local features plus a convolution in the frequency domain, which is global in space.

    Eq. 4: y = CB3x3(F^), F = y + IFFT(CB1x1(FFT(y))). The 1x1 block works on real and imaginary parts as channels and
    has no bias. With `config.spectral_input` = `raw` the transform sees F^ itself (released code).
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, fusion: Float[Array, "b h w c"], statistics: NormContext) -> Float[Array, "b h w c"]:
        channels, rows = self.config.channels, self.config.statistics_rows
        refined = ConvBlock(channels, rows=rows, name="local")(fusion, statistics)
        source = refined if self.config.spectral_input == "refined" else fusion
        # Channels first: the transforms want their axes last, and real and imaginary parts become channels by
        # lying one after the other.
        spectrum = spectral.to_channels(spectral.rfft2(jnp.moveaxis(source, -1, 1)))
        block = ConvBlock(2 * channels, kernel=1, use_bias=False, rows=rows, channel_axis=1, name="frequency")
        spectrum = spectral.from_channels(block(spectrum, statistics))
        filtered = jnp.moveaxis(spectral.irfft2(spectrum, (fusion.shape[1], fusion.shape[2])), 1, -1)
        # The barrier keeps XLA from reading across the transposition in the sum, which takes longer than a copy.
        return refined + jax.lax.optimization_barrier(filtered)
