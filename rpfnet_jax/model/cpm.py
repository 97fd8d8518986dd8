"""CPM, the Cross-Promotion Module (Eq. 1 and 2)."""

from __future__ import annotations

import flax.linen as nn
import jax

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import ConvBlock, NormContext
from rpfnet_jax.ops import FeatureMaps


class CPM(nn.Module):
    """Exchanges information between the residual branch R and the fusion branch F.

    Eq. 1: R^ = ReLU(BN(Conv3x3(F))) + R. Eq. 2: F^ = sigmoid(BN(Conv(R))) * F + F. Both use the stage's inputs.
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self, residual: FeatureMaps, fusion: FeatureMaps, context: NormContext
    ) -> tuple[FeatureMaps, FeatureMaps]:
        """Returns the promoted (R^, F^)."""
        channels, kernel = self.config.channels, self.config.gate_kernel
        semantics = ConvBlock(channels, name="context")(fusion, context)
        gate = ConvBlock(channels, kernel, activation=jax.nn.sigmoid, name="gate")(residual, context)
        return semantics + residual, gate * fusion + fusion
