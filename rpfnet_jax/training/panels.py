"""Image panels of a few training patches for TensorBoard: IR, VIS, fused, and M' and w where there are such."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rpfnet_jax.losses import LossConfig, adaptive_weight
from rpfnet_jax.training.state import Networks, TrainState
from rpfnet_jax.training.step import to_unit

Panels = Callable[[TrainState, Any, Any], Float[Array, "y x 1"]]


def make_panels(networks: Networks, losses: LossConfig) -> Panels:
    """Compiles (state, ir, vis_y) -> one picture in [0, 1]: a row per patch, columns IR, VIS, fused, M', w.

    Without an auxiliary decoder there is no M', without adaptive weights no w.
    """

    def panels(state: TrainState, ir: Array, vis_y: Array) -> Array:
        apply: Any = networks.fusion.apply
        ir, vis_y = to_unit(ir), to_unit(vis_y)
        fused, stages = apply(state.variables(), ir, vis_y, norm="image", features=True)
        shown = [ir, vis_y, fused]
        if networks.auxiliary is not None:
            auxiliary: Any = networks.auxiliary.apply
            shown.append(auxiliary(state.variables("auxiliary"), stages[-1].residual, norm="image"))
        if losses.adaptive_weights:
            shown.append(adaptive_weight(ir, vis_y, losses))
        columns = jnp.concatenate(shown, axis=2)
        return columns.reshape(-1, *columns.shape[2:])

    return jax.jit(panels)
