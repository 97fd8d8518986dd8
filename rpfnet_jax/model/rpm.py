"""RPM, the Residual Prior Module (Eq. 3)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import ChannelAttention, ConvBlock, NormContext, SpatialAttention, torch_uniform
from rpfnet_jax.ops.convolution import Precision, conv2d

DILATIONS = (1, 3, 5)


class Merge(nn.Module):
    """A 1x1 convolution of several maps side by side, computed without ever laying them side by side."""

    features: int

    @nn.compact
    def __call__(
        self, maps: Sequence[Float[Array, "b h w c"]], precision: Precision = "float32"
    ) -> Float[Array, "b h w d"]:
        channels = sum(x.shape[-1] for x in maps)
        init = torch_uniform(channels)
        kernel = self.param("kernel", init, (1, 1, channels, self.features))
        parts = jnp.split(kernel, len(maps), axis=2)
        products = [conv2d(x, part, precision=precision) for x, part in zip(maps, parts, strict=True)]
        return functools.reduce(jnp.add, products) + self.param("bias", init, (self.features,))


class RPM(nn.Module):
    """Multi-scale context of the residual features: R = sum over r in {1, 3, 5} of DConv_r(SA(CA(R^))).

    With `config.attention` False the attention modules have parameters, as in the released network, but no
    computation: their result would be dropped.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, residual: Float[Array, "b h w c"], statistics: NormContext) -> Float[Array, "b h w c"]:
        channels, rows = self.config.channels, self.config.statistics_rows
        if self.config.attention or self.is_initializing():
            attended = ChannelAttention(name="channel_attention")(residual)
            attended = SpatialAttention(rows, name="spatial_attention")(attended, statistics)
            if self.config.attention:
                residual = attended
        contexts = [
            ConvBlock(channels, dilation=rate, rows=rows, name=f"dilated_{rate}")(residual, statistics)
            for rate in DILATIONS
        ]
        if self.config.merge == "sum":
            return contexts[0] + contexts[1] + contexts[2]
        return Merge(channels, name="merge")(contexts, statistics.runtime.precision)
