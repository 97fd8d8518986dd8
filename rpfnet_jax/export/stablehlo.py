"""StableHLO files: `to_stablehlo`; `rpfnet_jax.export.load` reads them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from rpfnet_jax import native
from rpfnet_jax.export.exported import PLATFORMS, packed
from rpfnet_jax.export.network import Network
from rpfnet_jax.model import MIN_SIDE, RPFNet


def to_stablehlo(network: Network) -> bytes:
    """Writes a network as StableHLO for CPU, CUDA and TPU, by `jax.export`.

    The program takes two float32 arrays, infrared and visible luminances (B, H, W, 1) in [0, 1], and returns the fused
    ones. B, H and W are free, but at least 16 for H and W, unless the network has a size; B is free.

    Raises:
        ValueError: a network with Transformer blocks and without a size.
    """
    config, variables, norm = network.computed()
    if config.fusion_block != "fdfm" and network.size is None:
        raise ValueError(f"networks with model.fusion_block={config.fusion_block!r} can be exported for one size only")
    model = RPFNet(config)

    def fuse(ir: Any, vis_y: Any) -> Any:
        return model.apply(variables, ir, vis_y, norm)

    height, width = network.size or ("h", "w")
    constraints = () if network.size else (f"h >= {MIN_SIDE}", f"w >= {MIN_SIDE}")
    shape = jax.export.symbolic_shape(f"b, {height}, {width}, 1", constraints=constraints)
    image = jax.ShapeDtypeStruct(shape, np.float32)
    with native.without_native_code():
        exported = jax.export.export(jax.jit(fuse), platforms=PLATFORMS)(image, image)
    return packed(bytes(exported.serialize()), network.record())
