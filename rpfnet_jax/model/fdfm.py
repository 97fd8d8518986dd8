"""FDFM, the Frequency Domain Fusion Module (Eq. 4)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import ConvBlock, NormContext
from rpfnet_jax.ops import FeatureMaps, spectral


class FDFM(nn.Module):
    """Local features plus a convolution in the frequency domain, which is global in space.

    Eq. 4: y = CB3x3(F^), F = y + IFFT(CB1x1(FFT(y))), with `jnp.fft.rfft2`. The 1x1 block has no bias and works on real
    and imaginary parts as channels. With `config.spectral_input` = `raw` F^ itself is transformed (released code).
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, fusion: FeatureMaps, context: NormContext) -> FeatureMaps:
        channels = self.config.channels
        refined = ConvBlock(channels, name="local")(fusion, context)
        source = refined if self.config.spectral_input == "refined" else fusion
        # Channels first, because the transforms work on the last axes, and interleaving real and imaginary parts as
        # channels is then a plain stack.
        spectrum = spectral.to_channels(spectral.rfft2(jnp.moveaxis(source, -1, 1)))
        block = ConvBlock(2 * channels, kernel=1, use_bias=False, channel_axis=1, name="frequency")
        spectrum = spectral.from_channels(block(spectrum, context))
        filtered = jnp.moveaxis(spectral.irfft2(spectrum, (fusion.shape[1], fusion.shape[2])), 1, -1)
        # On CPU the barrier makes XLA transpose before it adds, as a sum that reads across the transposition is slower;
        # a GPU does both in one pass.
        barrier = jax.lax.optimization_barrier
        return refined + jax.lax.platform_dependent(filtered, cpu=barrier, default=lambda filtered: filtered)
