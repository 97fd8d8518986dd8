"""FDFM, the Frequency Domain Fusion Module (Eq. 4)."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from rpfnet_jax.model import spectral
from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import ConvBlock, Statistics


class FDFM(nn.Module):
    """Local features plus a convolution in the frequency domain, which is global in space.

    Eq. 4: y = CB3x3(F^), F = y + IFFT(CB1x1(FFT(y))). The 1x1 block works on real and imaginary parts as channels and
    has no bias. With `config.spectral_input` = `raw` the transform sees F^ itself (released code).
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, fusion: Float[Array, "b h w c"], statistics: Statistics) -> Float[Array, "b h w c"]:
        channels, rows = self.config.channels, self.config.statistics_rows
        refined = ConvBlock(channels, rows=rows, name="local")(fusion, statistics)
        source = refined if self.config.spectral_input == "refined" else fusion
        spectrum = spectral.to_channels(spectral.rfft2(source))
        spectrum = ConvBlock(2 * channels, kernel=1, use_bias=False, rows=rows, name="frequency")(spectrum, statistics)
        return refined + spectral.irfft2(spectral.from_channels(spectrum), (fusion.shape[1], fusion.shape[2]))
