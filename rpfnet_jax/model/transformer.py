"""Transformer block in place of the FDFM: the paper's ablation "FDFM => Trans. block" (Section 4.2.2)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from rpfnet_jax.model.config import ModelConfig
from rpfnet_jax.model.layers import NormContext, dense
from rpfnet_jax.ops import FeatureMaps
from rpfnet_jax.ops.normalisation import EPSILON

# A pixel attends to the 64 pixels of its 8x8 window, so that the cost is proportional to the image's area and not to
# the square of it.
WINDOW = 8
_HEAD_WIDTH = 16
_MLP_RATIO = 4

# Score of padding. Finite, so that windows of nothing but padding have no NaN gradient; its exp is 0 beside any other.
_NEVER = -1e9


class TransformerBlock(nn.Module):
    """x + MSA(LN(x)), then x + MLP(LN(x)), pre-norm, at the width of the FDFM that it replaces.

    The paper names the block without describing it; this is the usual one of image fusion (Swin, as in SwinFusion):
    softmax attention in windows of `WINDOW` pixels with a learned bias for each relative position, windows shifted by
    half in every second stage so that their borders move, an MLP of four times the width with GELU. At 32 channels it
    has 13,154 parameters, the FDFM 13,536. LayerNorm works pixel by pixel, so that all norm modes compute the same.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, fusion: FeatureMaps, context: NormContext) -> FeatureMaps:
        channels = self.config.channels
        shift = WINDOW // 2 if context.stage % 2 else 0
        normed = nn.LayerNorm(epsilon=EPSILON, name="attention_norm")(fusion)
        fusion = fusion + WindowAttention(name="attention")(normed, shift)
        normed = nn.LayerNorm(epsilon=EPSILON, name="mlp_norm")(fusion)
        hidden = dense(_MLP_RATIO * channels, channels, "expand")(normed)
        return fusion + dense(channels, _MLP_RATIO * channels, "contract")(jax.nn.gelu(hidden))


class WindowAttention(nn.Module):
    """Multi-head self-attention among the pixels of each window; see `head_count`."""

    @nn.compact
    def __call__(self, x: FeatureMaps, shift: int = 0) -> FeatureMaps:
        """Mixes the pixels of each window; pads to whole windows, and no pixel attends to padding.

        Args:
            x: normalised features of any height and width.
            shift: pixels by which the first window begins above and left of the image.
        """
        height, width, channels = x.shape[1:]
        heads, tokens = head_count(channels), WINDOW * WINDOW
        shape = heads, (2 * WINDOW - 1) ** 2
        bias = self.param("position_bias", nn.initializers.truncated_normal(0.02), shape, jnp.float32)
        scores_bias = bias[:, _relative_positions()]

        qkv = dense(3 * channels, channels, "qkv")(x)
        margins = ((0, 0), (shift, -(height + shift) % WINDOW), (shift, -(width + shift) % WINDOW), (0, 0))
        padded = jnp.pad(qkv, margins)
        rows, columns = padded.shape[1] // WINDOW, padded.shape[2] // WINDOW
        windows = _to_windows(padded, rows, columns).reshape(-1, rows * columns, tokens, 3, heads, channels // heads)
        query, key, value = (windows[:, :, :, part] for part in range(3))

        scores = (
            jnp.einsum("bnqhd,bnkhd->bnhqk", query * (channels // heads) ** -0.5, key, precision="highest")
            + scores_bias
        )
        inside = _inside(height, width, margins[1], margins[2])
        scores = jnp.where(inside[:, None, None, :], scores, _NEVER)
        mixed = jnp.einsum("bnhqk,bnkhd->bnqhd", jax.nn.softmax(scores), value, precision="highest")
        mixed = mixed.reshape(-1, rows, columns, WINDOW, WINDOW, channels)
        image = jnp.moveaxis(mixed, 3, 2).reshape(padded.shape[0], rows * WINDOW, columns * WINDOW, channels)
        return dense(channels, channels, "out")(image[:, shift : shift + height, shift : shift + width])


def head_count(channels: int) -> int:
    """Returns the number of attention heads: one per 16 channels, or a single one where 16 does not divide them."""
    return channels // _HEAD_WIDTH if channels % _HEAD_WIDTH == 0 else 1


def _to_windows(x: Array, rows: int, columns: int) -> Array:
    """Cuts (B, rows*8, columns*8, C) into windows, (B, rows*columns, 64, C)."""
    parts = x.reshape(x.shape[0], rows, WINDOW, columns, WINDOW, x.shape[3])
    return jnp.moveaxis(parts, 2, 3).reshape(x.shape[0], rows * columns, WINDOW * WINDOW, x.shape[3])


def _inside(height: int, width: int, above: tuple[int, int], left: tuple[int, int]) -> Bool[np.ndarray, "n t"]:
    """Marks the tokens of each window that are pixels of the image, not padding."""
    mask = np.pad(np.ones((height, width), bool), (above, left))
    rows, columns = mask.shape[0] // WINDOW, mask.shape[1] // WINDOW
    parts = mask.reshape(rows, WINDOW, columns, WINDOW).swapaxes(1, 2)
    return parts.reshape(rows * columns, WINDOW * WINDOW)


def _relative_positions() -> Int[np.ndarray, "t t"]:
    """Indexes the offset between each query and key of a window among the (2*8 - 1)^2 possible ones."""
    row, column = np.divmod(np.arange(WINDOW * WINDOW), WINDOW)
    offsets = [axis[:, None] - axis[None, :] + WINDOW - 1 for axis in (row, column)]
    return offsets[0] * (2 * WINDOW - 1) + offsets[1]
