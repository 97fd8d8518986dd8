"""The modules of `rpfnet_jax.model` as ONNX graphs: one function for each, of the same name and parameters.

Norms are either folded into the convolutions (`rpfnet_jax.model.fold`) or those of each image; which one follows from
the parameters. Tensors are channels first, (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rpfnet_jax.export.functions import FixedFourier, Fourier, conv2d, exposed_sum, logit, starlet
from rpfnet_jax.export.graph import Tensor
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.model.network import DETAIL_GAIN
from rpfnet_jax.model.rpm import DILATIONS
from rpfnet_jax.ops.normalisation import EPSILON

Params = Mapping[str, Any]
Transforms = Fourier | FixedFourier


def conv(x: Tensor, params: Params, dilation: int = 1) -> Tensor:
    """Mirrors `layers.Conv`."""
    return conv2d(x, params["kernel"], params.get("bias"), dilation)


def dense(x: Tensor, params: Params) -> Tensor:
    """Mirrors `layers.dense`."""
    return conv2d(x, params["kernel"][None, None], params["bias"])


def conv_block(x: Tensor, params: Params, dilation: int = 1, activation: str = "Relu") -> Tensor:
    """Mirrors `layers.ConvBlock`; parameters of a norm mean that of each image."""
    if "norm" not in params:
        return x.graph(activation, conv(x, params["conv"], dilation))
    # Without the bias, which a norm by the pixels' own mean removes.
    y, norm = conv2d(x, params["conv"]["kernel"], None, dilation), params["norm"]
    return x.graph(activation, x.graph("InstanceNormalization", y, norm["scale"], norm["bias"], epsilon=EPSILON))


def channel_attention(x: Tensor, params: Params) -> Tensor:
    """Mirrors `layers.ChannelAttention`."""
    squeezed = x.graph("Relu", dense(x.mean(2, 3), params["squeeze"]))
    return x * x.graph("Sigmoid", dense(squeezed, params["excite"]))


def spatial_attention(x: Tensor, params: Params) -> Tensor:
    """Mirrors `layers.SpatialAttention`."""
    return x * x.graph("Sigmoid", conv(conv_block(x, params["reduce"]), params["map"]))


def cpm(residual: Tensor, fusion: Tensor, params: Params) -> tuple[Tensor, Tensor]:
    """Mirrors `CPM`."""
    semantics = conv_block(fusion, params["context"])
    gate = conv_block(residual, params["gate"], activation="Sigmoid")
    return semantics + residual, gate * fusion + fusion


def rpm(config: ModelConfig, residual: Tensor, params: Params) -> Tensor:
    """Mirrors `RPM`."""
    if config.attention:
        residual = channel_attention(residual, params["channel_attention"])
        residual = spatial_attention(residual, params["spatial_attention"])
    maps = [conv_block(residual, params[f"dilated_{rate}"], rate) for rate in DILATIONS]
    if config.merge == "sum":
        return maps[0] + maps[1] + maps[2]
    return conv(residual.graph.concat(*maps, axis=1), params["merge"])


def fdfm(config: ModelConfig, fusion: Tensor, params: Params, transforms: Transforms) -> Tensor:
    """Mirrors `FDFM`."""
    refined = conv_block(fusion, params["local"])
    source = refined if config.spectral_input == "refined" else fusion
    # The network interleaves real and imaginary parts as channels; here the ones come before the others.
    order = np.arange(2 * config.channels).reshape(-1, 2).T.ravel()
    frequency = {
        layer: {name: value[..., order] for name, value in tree.items()} for layer, tree in params["frequency"].items()
    }
    frequency["conv"]["kernel"] = frequency["conv"]["kernel"][..., order, :]
    return refined + transforms.irfft2(conv_block(transforms.rfft2(source), frequency))


def stage(
    config: ModelConfig, residual: Tensor | None, fusion: Tensor, params: Params, transforms: Transforms
) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor]:
    """Mirrors `network.Stage`; returns what `StageFeatures` has."""
    if config.cpm and residual is not None:
        residual, fusion = cpm(residual, fusion, params["cpm"])
    prior = None if residual is None else rpm(config, residual, params["rpm"])
    return residual, fusion, prior, fdfm(config, fusion, params["fdfm"], transforms)


def reconstruction(features: Tensor, params: Params, base: Tensor | None, details: Tensor | None) -> Tensor:
    """Mirrors `network.Reconstruction`."""
    x = conv_block(conv_block(features, params["block_0"]), params["block_1"])
    logits, graph = conv(x, params["out"]), x.graph
    if details is not None:
        logits, weights = graph.split(logits, 1, sizes=[1, params["out"]["bias"].size - 1])
        logits = logits + graph("ReduceSum", weights * details, [1], keepdims=1)
    return graph("Sigmoid", logits if base is None else base + logits)


def rpfnet(config: ModelConfig, ir: Tensor, vis_y: Tensor, params: Params, transforms: Transforms) -> Tensor:
    """Mirrors `RPFNet`: fuses luminances, (B, 1, H, W) in [0, 1].

    Raises:
        ValueError: the network has Transformer blocks.
    """
    if config.fusion_block != "fdfm":
        raise ValueError(f"networks with model.fusion_block={config.fusion_block!r} can't be exported as ONNX")
    graph = ir.graph
    residual = conv_block(ir - vis_y, params["residual_stem"]) if config.residual_prior else None
    fusion = conv_block(graph.concat(vis_y, ir, axis=1), params["fusion_stem"])
    for index in range(config.stages):
        weights = params["stage" if config.share_stages else f"stage_{index}"]
        _, _, residual, fusion = stage(config, residual, fusion, weights, transforms)
    summed = fusion if residual is None else residual + fusion
    base = None if config.base == "none" else logit(exposed_sum(ir, vis_y))
    details = starlet(graph.concat(ir, vis_y, axis=1), config.details) * DETAIL_GAIN if config.details else None
    return reconstruction(summed, params["head"], base, details)
