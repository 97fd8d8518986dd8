"""A Transformer block in the place of the FDFM: the paper's ablation "FDFM => Trans. block" (Section 4.2.2)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import NormContext, torch_uniform
from rpfnet_jax.ops.normalisation import EPSILON

# Token budget: a pixel attends to the 64 pixels of its 8x8 window, so that cost grows with the picture's area and not
# with its square.
WINDOW = 8
_HEAD_WIDTH = 16
_MLP_RATIO = 4

# Finite, so that a row of nothing but padding has no NaN gradient; exp of it is 0 beside any real score.
_NEVER = -1e9


class TransformerBlock(nn.Module):
    """x + MSA(LN(x)), then x + MLP(LN(x)), pre-norm, at the width of the FDFM that it replaces.

    The paper names the block without describing it; this is the usual one of image fusion (Swin, as in SwinFusion):
    softmax attention in windows of `WINDOW` pixels with a learned bias for each relative position, windows shifted by
    half in every second stage so that their borders move, an MLP of four times the width with GELU. At 32 channels it
    has 13,154 parameters, the FDFM 13,536. LayerNorm sees one pixel at a time: every norm mode computes the same here.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, fusion: Float[Array, "b h w c"], statistics: NormContext) -> Float[Array, "b h w c"]:
        channels = self.config.channels
        shift = WINDOW // 2 if statistics.stage % 2 else 0
        normed = nn.LayerNorm(epsilon=EPSILON, name="attention_norm")(fusion)
        fusion = fusion + WindowAttention(name="attention")(normed, shift)
        hidden = dense(_MLP_RATIO * channels, channels, "expand")(
            nn.LayerNorm(epsilon=EPSILON, name="mlp_norm")(fusion)
        )
        return fusion + dense(channels, _MLP_RATIO * channels, "contract")(jax.nn.gelu(hidden))


class WindowAttention(nn.Module):
    """Multi-head self-attention among the pixels of each window; see `head_count`."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], shift: int = 0) -> Float[Array, "b h w c"]:
        """Any height and width: the picture is padded to whole windows, and no pixel attends to padding.

        Args:
            x: normalised features.
            shift: pixels by which the windows begin above and left of the picture.
        """
        height, width, channels = x.shape[1:]
        heads, tokens = head_count(channels), WINDOW * WINDOW
        bias = self.param("position_bias", nn.initializers.truncated_normal(0.02), (heads, (2 * WINDOW - 1) ** 2))
        scores_bias = bias[:, _relative_positions()]

        qkv = dense(3 * channels, channels, "qkv")(x)
        margins = ((0, 0), (shift, -(height + shift) % WINDOW), (shift, -(width + shift) % WINDOW), (0, 0))
        padded = jnp.pad(qkv, margins)
        rows, columns = padded.shape[1] // WINDOW, padded.shape[2] // WINDOW
        windows = _to_windows(padded, rows, columns).reshape(-1, rows * columns, tokens, 3, heads, channels // heads)
        query, key, value = (windows[:, :, :, part] for part in range(3))

        scores = jnp.einsum("bnqhd,bnkhd->bnhqk", query * (channels // heads) ** -0.5, key) + scores_bias
        inside = _inside(height, width, margins[1], margins[2])
        scores = jnp.where(inside[:, None, None, :], scores, _NEVER)
        mixed = jnp.einsum("bnhqk,bnkhd->bnqhd", jax.nn.softmax(scores), value)
        mixed = mixed.reshape(-1, rows, columns, WINDOW, WINDOW, channels)
        picture = jnp.moveaxis(mixed, 3, 2).reshape(padded.shape[0], rows * WINDOW, columns * WINDOW, channels)
        return dense(channels, channels, "out")(picture[:, shift : shift + height, shift : shift + width])


def head_count(channels: int) -> int:
    """Heads of the attention: one for each 16 channels, or one in all where that does not come out even."""
    return channels // _HEAD_WIDTH if channels % _HEAD_WIDTH == 0 else 1


def dense(features: int, fan_in: int, name: str) -> nn.Dense:
    """A linear layer over the channels with torch's initialisation."""
    init = torch_uniform(fan_in)
    return nn.Dense(features, kernel_init=init, bias_init=init, name=name)


def _to_windows(x: Array, rows: int, columns: int) -> Array:
    """(B, rows*8, columns*8, C) to (B, rows*columns, 64, C)."""
    parts = x.reshape(x.shape[0], rows, WINDOW, columns, WINDOW, x.shape[3])
    return jnp.moveaxis(parts, 2, 3).reshape(x.shape[0], rows * columns, WINDOW * WINDOW, x.shape[3])


def _inside(height: int, width: int, above: tuple[int, int], left: tuple[int, int]) -> Bool[np.ndarray, "n t"]:
    """Which tokens of each window are pixels of the picture."""
    mask = np.pad(np.ones((height, width), bool), (above, left))
    rows, columns = mask.shape[0] // WINDOW, mask.shape[1] // WINDOW
    parts = mask.reshape(rows, WINDOW, columns, WINDOW).swapaxes(1, 2)
    return parts.reshape(rows * columns, WINDOW * WINDOW)


def _relative_positions() -> Int[np.ndarray, "t t"]:
    """For each query and key of a window, the index of their offset among the (2*8 - 1)^2 possible ones."""
    row, column = np.divmod(np.arange(WINDOW * WINDOW), WINDOW)
    offsets = [axis[:, None] - axis[None, :] + WINDOW - 1 for axis in (row, column)]
    return offsets[0] * (2 * WINDOW - 1) + offsets[1]
