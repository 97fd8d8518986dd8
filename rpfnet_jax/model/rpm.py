"""RPM, the Residual Prior Module (Eq. 3)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import ChannelAttention, ConvBlock, NormContext, SpatialAttention, torch_uniform
from rpfnet_jax.ops import FeatureMaps
from rpfnet_jax.ops.convolution import Precision, conv2d

DILATIONS = (1, 3, 5)


class RPM(nn.Module):
    """Multi-scale context of the residual features.

    Eq. 3: R = sum over r in {1, 3, 5} of DConv_r(SA(CA(R^))). With `config.merge` = `concat` a 1x1 convolution of the
    three maps replaces the sum (released code). With `config.attention` False the attention modules have parameters, as
    in the released network, but are not computed, because their result would be dropped.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, residual: FeatureMaps, context: NormContext) -> FeatureMaps:
        channels = self.config.channels
        if self.config.attention or self.is_initializing():
            attended = ChannelAttention(name="channel_attention")(residual)
            attended = SpatialAttention(name="spatial_attention")(attended, context)
            if self.config.attention:
                residual = attended
        maps = [ConvBlock(channels, dilation=rate, name=f"dilated_{rate}")(residual, context) for rate in DILATIONS]
        if self.config.merge == "sum":
            return maps[0] + maps[1] + maps[2]
        return Merge(channels, name="merge")(maps, context.runtime.precision)


class Merge(nn.Module):
    """1x1 convolution of concatenated maps, computed map by map to save the memory of the concatenation."""

    features: int

    @nn.compact
    def __call__(self, maps: Sequence[FeatureMaps], precision: Precision = "float32") -> Float[Array, "b h w d"]:
        channels = sum(x.shape[-1] for x in maps)
        init = torch_uniform(channels)
        kernel = self.param("kernel", init, (1, 1, channels, self.features))
        parts = jnp.split(kernel, len(maps), axis=2)
        products = [conv2d(x, part, precision=precision) for x, part in zip(maps, parts, strict=True)]
        return functools.reduce(jnp.add, products) + self.param("bias", init, (self.features,))
