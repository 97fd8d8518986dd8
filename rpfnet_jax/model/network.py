"""RPFNet, the whole network, and the auxiliary decoder that is trained with it.

In the `paper` reading, with weights shared by the N stages:

    R = CB(IR - VIS_Y)                   residual_stem
    F = CB([VIS_Y, IR])                  fusion_stem
    N times:
        R^, F^ = CPM(R, F)               Eq. 1 and 2, cpm.py
        R = RPM(R^)                      Eq. 3, rpm.py
        F = FDFM(F^)                     Eq. 4, fdfm.py
    fused = sigmoid(Conv(CB(CB(R + F)))) head
    M' = sigmoid(Conv(CB(CB(R))))        the auxiliary decoder
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from rpfnet_jax.model.config import ModelConfig, RuntimeOptions
from rpfnet_jax.model.cpm import CPM
from rpfnet_jax.model.fdfm import FDFM
from rpfnet_jax.model.layers import Conv, ConvBlock, NormContext, NormMode, check_norm, torch_uniform
from rpfnet_jax.model.rpm import RPM
from rpfnet_jax.model.transformer import TransformerBlock
from rpfnet_jax.ops import FeatureMaps, Images, Scalar
from rpfnet_jax.ops.filters import starlet
from rpfnet_jax.ops.normalisation import EPSILON
from rpfnet_jax.ops.tone import Exposure, exposed_sum, logit

MIN_SIDE = 16
# In logits: at mid-grey a detail that the head weighs by 0.4 is added to F at its own size.
DETAIL_GAIN = 10.0


class StageFeatures(NamedTuple):
    """The feature maps of one stage, those of Figure 3; each (B, H, W, C).

    Attributes:
        promoted_residual: R^ of Eq. 1; without a CPM the stage's input, without a residual branch None.
        promoted_fusion: F^ of Eq. 2; without a CPM the stage's input.
        residual: output of the RPM, Eq. 3; without a residual branch None.
        fusion: output of the FDFM, Eq. 4, or of the Transformer block in its place.
    """

    promoted_residual: FeatureMaps | None
    promoted_fusion: FeatureMaps
    residual: FeatureMaps | None
    fusion: FeatureMaps


class Stage(nn.Module):
    """One iteration: CPM, then RPM and FDFM on its outputs; fewer modules where the configuration leaves some out."""

    config: ModelConfig

    @nn.compact
    def __call__(self, residual: FeatureMaps | None, fusion: FeatureMaps, context: NormContext) -> StageFeatures:
        config = self.config
        if config.cpm and residual is not None:
            residual, fusion = CPM(config, name="cpm")(residual, fusion, context)
        prior = None if residual is None else RPM(config, name="rpm")(residual, context)
        if config.fusion_block == "fdfm":
            fused = FDFM(config, name="fdfm")(fusion, context)
        else:
            fused = TransformerBlock(config, name="transformer")(fusion, context)
        return StageFeatures(residual, fusion, prior, fused)


class Reconstruction(nn.Module):
    """Two CBs (C, C/2 channels), a 3x3 convolution to one channel and a sigmoid: the head and the auxiliary decoder."""

    channels: int = 32

    @nn.compact
    def __call__(
        self,
        features: FeatureMaps,
        context: NormContext,
        base: Images | None = None,
        details: Float[Array, "b h w s"] | None = None,
    ) -> Images:
        """Maps features to (0, 1). Before the sigmoid it adds `base`, and `details`, each weighted by its own map.

        With a base the last convolution starts at zero. From random weights training would first silence the features
        that spoil the base, and many of them never recover.
        """
        x = ConvBlock(self.channels, name="block_0")(features, context)
        x = ConvBlock(self.channels // 2, name="block_1")(x, context)
        outputs = 1 if details is None else 1 + details.shape[-1]
        initial = torch_uniform if base is None else _zeros
        maps = Conv(outputs, initial=initial, name="out")(x, context.runtime.precision)
        logits = maps[..., :1]
        if details is not None:
            logits += jnp.sum(maps[..., 1:] * details, -1, keepdims=True)
        return jax.nn.sigmoid(logits if base is None else base + logits)


def _zeros(fan_in: int) -> nn.initializers.Initializer:
    del fan_in
    return functools.partial(nn.initializers.zeros, dtype=jnp.float32)


class RPFNet(nn.Module):
    """Residual Prior-driven Frequency-aware Network (ACM MM 2025).

    Example:
        >>> model = RPFNet(ModelConfig.preset("paper"))
        >>> variables = init_variables(model, jax.random.key(0), ir, vis_y)
        >>> fused = jax.jit(model.apply)(variables, ir, vis_y)

    Attributes:
        config: the architecture.
        runtime: options set by training: mesh axis, rematerialisation, precision.
    """

    config: ModelConfig = ModelConfig()
    runtime: RuntimeOptions = RuntimeOptions()

    @nn.compact
    def __call__(
        self,
        ir: Float[Array | np.ndarray, "b h w 1"],
        vis_y: Float[Array | np.ndarray, "b h w 1"],
        norm: NormMode = "image",
        adapt: float | Scalar = 0.1,
        features: bool = False,
        exposure: Exposure | None = None,
    ) -> Images | tuple[Images, tuple[StageFeatures, ...]]:
        """Fuses a batch of registered pairs.

        Args:
            ir: infrared images, float32 in [0, 1]; any height and width of at least 16.
            vis_y: luminance of the visible images in [0, 1].
            norm: source of the norm layers' statistics; see `NormContext`. `batch` with `mutable=["batch_stats"]` is
                training.
            adapt: weight of the image's own statistics in `adaptive` mode.
            features: also return the feature maps of every stage (Figure 3). Static, like `norm`.
            exposure: statistics of the whole images where `ir` and `vis_y` are tiles; None: they are whole. Used only
                by a network with a base.

        Returns:
            The fused luminance in (0, 1); with `features`, a pair of it and the N `StageFeatures`.

        Raises:
            ValueError: shapes differ, are not (B, H, W, 1), or a side is shorter than 16; unknown `norm`.
        """
        check_shapes(ir.shape, vis_y.shape)
        check_norm(norm)
        ir, vis_y = jnp.asarray(ir), jnp.asarray(vis_y)
        config = self.config
        context = NormContext(config.norm_mode(norm), adapt, runtime=self.runtime)
        residual = None
        if config.residual_prior:
            residual = ConvBlock(config.channels, name="residual_stem")(ir - vis_y, context)
        # Channel order of the released weights: visible first.
        fusion = ConvBlock(config.channels, name="fusion_stem")(jnp.concatenate([vis_y, ir], -1), context)

        # Unrolled on purpose: a convolution's gradient inside lax.scan is about 40 times slower on CPU.
        maps = []
        make_stage = nn.remat(Stage) if self.runtime.remat else Stage
        stage = make_stage(config, name="stage") if config.share_stages else None
        for index in range(config.stages):
            block = stage or make_stage(config, name=f"stage_{index}")
            maps.append(block(residual, fusion, context.at(index, config.statistics_rows)))
            residual, fusion = maps[-1].residual, maps[-1].fusion

        summed = fusion if residual is None else residual + fusion
        base = None if config.base == "none" else logit(exposed_sum(ir, vis_y, exposure))
        details = None
        if config.details:
            scales = [starlet(image, config.details) for image in (ir, vis_y)]
            details = DETAIL_GAIN * jnp.concatenate(scales, -1)
        fused = Reconstruction(config.channels, name="head")(summed, context, base, details)
        return (fused, tuple(maps)) if features else fused


class AuxiliaryDecoder(nn.Module):
    """Decodes the last residual features into M', the map that the saliency structure loss constrains (Eq. 5-7).

    Used in training only; not part of the fusion network's parameters. The attributes are those of `RPFNet`.
    """

    config: ModelConfig = ModelConfig()
    runtime: RuntimeOptions = RuntimeOptions()

    @nn.compact
    def __call__(self, residual: FeatureMaps, norm: NormMode = "image") -> Images:
        """Returns M' in (0, 1) from the residual features after the last stage."""
        context = NormContext(self.config.norm_mode(norm), runtime=self.runtime)
        return Reconstruction(self.config.channels, name="head")(residual, context)


def init_variables(network: nn.Module, key: Array, *inputs: Array | np.ndarray) -> dict[str, Any]:
    """Makes a network's initial `params` and `batch_stats`.

    Linen's `init` compiled without optimisation: it runs once, and optimising the code of its random bits would take
    most of the time.

    Args:
        network: an `RPFNet` or `AuxiliaryDecoder`.
        key: from `jax.random.key`; determines every parameter.
        *inputs: arrays of any values, in shapes that the network takes.
    """
    return jax.jit(network.init, compiler_options={"xla_backend_optimization_level": 0})(key, *inputs)


@functools.lru_cache(maxsize=8)
def variable_shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Maps the path of every variable of an `RPFNet`, such as `params/stage/cpm/gate/conv/kernel`, to its shape."""
    image = jax.ShapeDtypeStruct((1, MIN_SIDE, MIN_SIDE, 1), np.float32)
    # The key is made inside, where it is abstract too: a file of weights is checked without starting a device.
    variables = jax.eval_shape(lambda *pair: RPFNet(config).init(jax.random.key(0), *pair), image, image)
    return MappingProxyType({path: leaf.shape for path, leaf in flatten_dict(variables, sep="/").items()})


def check_shapes(ir: tuple[int, ...], vis_y: tuple[int, ...]) -> None:
    """Raises ValueError when a network can't take images of these shapes."""
    if ir != vis_y:
        raise ValueError(f"IR and VIS_Y must have the same shape, got {ir} and {vis_y}")
    if len(ir) != 4 or ir[-1] != 1:
        raise ValueError(f"IR and VIS_Y must be (batch, height, width, 1), got {ir}")
    # Side by side: sizes that an export leaves free have no minimum.
    if any(side < MIN_SIDE for side in ir[1:3]):
        raise ValueError(f"height and width must be at least {MIN_SIDE}, got {ir[1]}x{ir[2]}")


def fold(config: ModelConfig, variables: Mapping[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    """Folds the running statistics into the convolutions: `norm="folded"` then computes what `running` mode does.

    conv(x) * s + t with s = scale / sqrt(var + eps) and t = bias - mean * s is a convolution with the kernel times s.
    As each stage has statistics of its own, it gets convolutions of its own: the folded network does not share stages.

    Args:
        config: of the network.
        variables: its `params` and `batch_stats`.

    Returns:
        Configuration and variables (`params` only, NumPy arrays) of the folded network.
    """
    folded = {}
    for name, tree in variables["params"].items():
        statistics = variables.get("batch_stats", {}).get(name, {})
        if name == "stage":
            for stage in range(config.stages):
                folded[f"stage_{stage}"] = _fold(tree, statistics, stage)
        else:
            folded[name] = _fold(tree, statistics, 0)
    return dataclasses.replace(config, share_stages=False), {"params": folded}


def _fold(params: Mapping[str, Any], statistics: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Folds one subtree of the parameters, with the given row of its statistics."""
    if "conv" in params and "norm" in params:
        conv, norm, stored = params["conv"], params["norm"], statistics["norm"]
        row = min(row, stored["mean"].shape[0] - 1)
        mean, var = (np.asarray(stored[name][row]) for name in ("mean", "var"))
        scale = np.asarray(norm["scale"]) / np.sqrt(var + np.float32(EPSILON))
        shift = np.asarray(norm["bias"]) + (np.asarray(conv.get("bias", np.float32(0))) - mean) * scale
        return {"conv": {"kernel": np.asarray(conv["kernel"]) * scale, "bias": shift}}
    return {
        name: _fold(tree, statistics.get(name, {}), row) if isinstance(tree, Mapping) else tree
        for name, tree in params.items()
    }
