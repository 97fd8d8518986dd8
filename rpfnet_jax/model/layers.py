"""Layers shared by all modules: norm with per-stage statistics, the paper's CB, channel and spatial attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from rpfnet_jax.model.config import RuntimeOptions
from rpfnet_jax.ops import FeatureMaps, Scalar
from rpfnet_jax.ops.convolution import Precision, conv2d, mix_channels
from rpfnet_jax.ops.normalisation import EPSILON, batch_norm, moments, normalised

NormMode = Literal["batch", "image", "running", "adaptive", "folded", "none"]
Activation = Callable[[Array], Array]

# Default of torch.nn.BatchNorm2d, which the authors use.
MOMENTUM = 0.1


@struct.dataclass
class NormContext:
    """Settings of one pass through the network, handed to every module: source of the norm's statistics and runtime.

    Attributes:
        mode: where mean and variance come from.
            `batch`: the whole batch; updates the running statistics when the collection `batch_stats` is mutable
            (training).
            `image`: each image by itself, independently of its neighbours in the batch (the authors' published images).
            `running`: the stored statistics of the stage.
            `adaptive`: a blend of the last two with a = `adapt`: mean = a*image + (1-a)*running and
            std = image^a * running^(1-a).
            `folded`: there are no norm layers; for the variables made by `rpfnet_jax.model.fold`.
            `none`: there are no norm layers; a network without norms computes this in every mode.
        adapt: the a of `adaptive`, in [0, 1]; may be traced.
        stage: index of the stage, which is the row of the running statistics where there are several.
        rows: number of stages that share their layers, each with running statistics of its own.
        runtime: how the network is computed.
    """

    mode: NormMode = struct.field(pytree_node=False, default="image")
    adapt: float | Scalar = 0.1
    stage: int = struct.field(pytree_node=False, default=0)
    rows: int = struct.field(pytree_node=False, default=1)
    runtime: RuntimeOptions = struct.field(pytree_node=False, default=RuntimeOptions())

    def at(self, stage: int, rows: int) -> NormContext:
        """Returns the same settings for a stage."""
        return self.replace(stage=stage, rows=rows)  # type: ignore[attr-defined]


def check_norm(mode: str) -> None:
    """Raises ValueError, naming the choices, when `mode` is not a norm mode."""
    if mode not in get_args(NormMode):
        raise ValueError(f"norm must be one of {', '.join(get_args(NormMode))}; got {mode!r}")


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """Draws as torch does for weights and biases of Conv2d and Linear: uniformly from +-1/sqrt(fan_in)."""
    bound = fan_in**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def he_uniform(fan_in: int) -> nn.initializers.Initializer:
    """Keeps the signal's mean square through convolution and ReLU (He et al. 2015); biases start at 0."""
    bound = (6 / fan_in) ** 0.5

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        if len(shape) == 1:
            return jnp.zeros(shape, dtype)
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def dense(features: int, fan_in: int, name: str) -> nn.Dense:
    """Makes a linear layer over the channels with torch's initialisation, in float32 also on GPUs with TF32."""
    init = torch_uniform(fan_in)
    return nn.Dense(features, kernel_init=init, bias_init=init, precision="highest", name=name)


class Conv(nn.Module):
    """Square convolution, stride 1, zero padding that keeps the size.

    Attributes:
        features: number of output channels.
        kernel: side of the kernel, odd.
        dilation: distance between neighbouring taps.
        use_bias: whether there is a bias.
        channel_axis: position of the channels, -1: (B, H, W, C) or, for a 1x1 kernel, 1: (B, C, H, W).
        initial: makes the initialiser of kernel and bias from the fan-in.
    """

    features: int
    kernel: int = 3
    dilation: int = 1
    use_bias: bool = True
    channel_axis: int = -1
    initial: Callable[[int], nn.initializers.Initializer] = torch_uniform

    @nn.compact
    def __call__(
        self, x: Float[Array, "b _ _ _"], precision: Precision = "float32", relu: bool = False
    ) -> Float[Array, "b _ _ _"]:
        """Convolves and, with `relu`, takes the positive part.

        `precision` applies to channels-last maps only, as channels-first maps are spectra.
        """
        channels = x.shape[self.channel_axis]
        init = self.initial(self.kernel * self.kernel * channels)
        kernel = self.param("kernel", init, (self.kernel, self.kernel, channels, self.features))
        bias = self.param("bias", init, (self.features,)) if self.use_bias else None
        if self.channel_axis == -1:
            return conv2d(x, kernel, bias, self.dilation, precision, relu)
        if self.kernel > 1:
            raise ValueError(f"channels may come first only with a kernel of 1, got a kernel of {self.kernel}")
        y = mix_channels(x, kernel[0, 0])
        y = y if bias is None else y + bias[:, None, None]
        return jax.nn.relu(y) if relu else y


class StageNorm(nn.Module):
    """Batch normalisation whose affine parameters are shared by the stages and whose running statistics are not.

    One BatchNorm shared by N stages with different activations has running statistics that fit none of them, which is
    why the released network only works on each image's own statistics. Here scale and bias have shape (C,), running
    mean and variance (rows, C). The semantics are torch's: momentum 0.1 of the new value, running variance unbiased,
    normalising variance biased, epsilon 1e-5.

    Attributes:
        rows: number of stages that share this layer, each with statistics of its own.
        channel_axis: position of the channels, -1: (B, H, W, C) or 1: (B, C, H, W).
    """

    rows: int = 1
    channel_axis: int = -1

    @property
    def pixel_axes(self) -> tuple[int, int]:
        """The two axes of the pixels."""
        return (1, 2) if self.channel_axis == -1 else (2, 3)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b _ _ _"], context: NormContext, offset: Float[Array, " c"] | float = 0.0
    ) -> Float[Array, "b _ _ _"]:
        """Normalises; `offset` is added to the mean that `batch` mode stores, for a bias that x was spared."""
        channels = x.shape[self.channel_axis]
        # Linen's default would be float64 under `jax_enable_x64`, here and in the other initialisers.
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        stored_mean = self.variable("batch_stats", "mean", jnp.zeros, (self.rows, channels), jnp.float32)
        stored_var = self.variable("batch_stats", "var", jnp.ones, (self.rows, channels), jnp.float32)
        row = context.stage if self.rows > 1 else 0

        if context.mode == "batch":
            axis = context.runtime.axis
            pixels = (0, *self.pixel_axes)
            y, batch_mean, batch_var = batch_norm(x, self._shaped(scale), self._shaped(bias), pixels, axis)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                count = x.size // channels * (jax.lax.axis_size(axis) if axis else 1)
                unbiased = batch_var.reshape(channels) * (count / (count - 1))
                # All devices have the same offset; its mean tells `shard_map` so, which the stored mean relies on.
                common = jax.lax.pmean(offset, axis) if axis else offset
                stored_mean.value = _updated(stored_mean.value, row, batch_mean.reshape(channels) + common)
                stored_var.value = _updated(stored_var.value, row, unbiased)
            return y
        if context.mode == "running":
            mean, var = self._shaped(stored_mean.value[row]), self._shaped(stored_var.value[row])
        else:
            mean, var = moments(x, self.pixel_axes)
            if context.mode == "adaptive":
                a = jnp.asarray(context.adapt, x.dtype)
                mean = a * mean + (1 - a) * self._shaped(stored_mean.value[row])
                var = (var + EPSILON) ** a * (self._shaped(stored_var.value[row]) + EPSILON) ** (1 - a) - EPSILON
        return normalised(x, mean, jax.lax.rsqrt(var + EPSILON) * self._shaped(scale), self._shaped(bias))

    def _shaped(self, values: Array | np.ndarray) -> Array | np.ndarray:
        return values if self.channel_axis == -1 else values[:, None, None]


def _updated(stored: Array, row: int, new: Array) -> Array:
    """Moves one row of running statistics towards those of a batch."""
    return stored.at[row].set((1 - MOMENTUM) * stored[row] + MOMENTUM * jax.lax.stop_gradient(new))


class ConvBlock(nn.Module):
    """CB of the paper: convolution, norm, activation; the attributes are those of `Conv`.

    Without a norm nothing else keeps the signal's size from stage to stage, so the convolution is initialised as He's.
    """

    features: int
    kernel: int = 3
    dilation: int = 1
    use_bias: bool = True
    activation: Activation = jax.nn.relu
    channel_axis: int = -1

    @nn.compact
    def __call__(self, x: Float[Array, "b _ _ _"], context: NormContext) -> Float[Array, "b _ _ _"]:
        folded = context.mode == "folded"
        # A norm by the pixels' own mean removes any constant: adding the bias and summing up its gradient of 0 would be
        # two wasted passes over the pixels. Only the stored mean includes it.
        skip_bias = context.mode in ("image", "batch") and not self.is_initializing()
        use_bias = (self.use_bias or folded) and not skip_bias
        init = he_uniform if context.mode == "none" else torch_uniform
        conv = Conv(self.features, self.kernel, self.dilation, use_bias, self.channel_axis, init, name="conv")
        if context.mode in ("folded", "none"):
            relu = self.activation is jax.nn.relu
            x = conv(x, context.runtime.precision, relu)
            return x if relu else self.activation(x)
        x = conv(x, context.runtime.precision)
        offset = (
            conv.get_variable("params", "bias") if self.use_bias and skip_bias else jnp.zeros(self.features, x.dtype)
        )
        return self.activation(StageNorm(context.rows, self.channel_axis, name="norm")(x, context, offset))


class ChannelAttention(nn.Module):
    """CA of Eq. 3: average pooling, two dense layers (reduction 4), sigmoid; scales the channels of its input."""

    @nn.compact
    def __call__(self, x: FeatureMaps) -> FeatureMaps:
        channels = x.shape[-1]
        hidden = channels // 4
        pooled = jnp.mean(x, (1, 2), keepdims=True)
        squeezed = jax.nn.relu(dense(hidden, channels, "squeeze")(pooled))
        return x * jax.nn.sigmoid(dense(channels, hidden, "excite")(squeezed))


class SpatialAttention(nn.Module):
    """SA of Eq. 3: CB 1x1 to half the channels, convolution 7x7 to one map, sigmoid; scales the pixels of its input."""

    @nn.compact
    def __call__(self, x: FeatureMaps, context: NormContext) -> FeatureMaps:
        reduced = ConvBlock(x.shape[-1] // 2, kernel=1, name="reduce")(x, context)
        return x * jax.nn.sigmoid(Conv(1, kernel=7, name="map")(reduced, context.runtime.precision))
