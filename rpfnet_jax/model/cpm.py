"""CPM, the Cross-Promotion Module (Eq. 1 and 2)."""

from __future__ import annotations

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import ConvBlock, NormContext


class CPM(nn.Module):
    """Exchanges information between the residual and the fusion branch.

    Eq. 1: R^ = ReLU(BN(Conv3x3(F))) + R. Eq. 2: F^ = sigmoid(BN(Conv(R))) * F + F. Both use the stage's inputs.
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self, residual: Float[Array, "b h w c"], fusion: Float[Array, "b h w c"], statistics: NormContext
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        """Returns the promoted (R^, F^), shaped like the inputs."""
        channels, rows = self.config.channels, self.config.statistics_rows
        context = ConvBlock(channels, rows=rows, name="context")(fusion, statistics)
        gate = ConvBlock(channels, self.config.gate_kernel, rows=rows, activation=jax.nn.sigmoid, name="gate")(
            residual, statistics
        )
        return context + residual, gate * fusion + fusion
