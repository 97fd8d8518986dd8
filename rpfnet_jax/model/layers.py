"""Building blocks shared by all modules: normalisation with per-stage statistics, CB, channel and spatial attention."""

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
from rpfnet_jax.ops.convolution import Precision, conv2d, mix_channels
from rpfnet_jax.ops.normalisation import EPSILON, batch_norm, moments, normalised

NormMode = Literal["batch", "image", "running", "adaptive", "folded", "none"]
Activation = Callable[[Array], Array]

# torch.nn.BatchNorm2d's default, which the authors use.
MOMENTUM = 0.1


@struct.dataclass
class NormContext:
    """Where the norm layers take mean and variance from during one pass through the network, and how it is computed.

    One value travels through all modules instead of a flag per choice.

    Attributes:
        mode: `batch`: over the whole batch, and the running statistics are updated when the collection
            `batch_stats` is mutable (training). `image`: each image's own, independent of its neighbours in the
            batch (what the authors published). `running`: the stored ones of the stage. `adaptive`: between the
            last two, mean = a*image + (1-a)*running and std = image^a * running^(1-a), with a = `adapt`. `folded`:
            none; for the variables that `rpfnet_jax.model.fold` makes. `none`: none; what a network without norms
            computes in every mode.
        adapt: the a of `adaptive`, in [0, 1]; may be traced.
        stage: index of the stage being computed; picks the row of the running statistics.
        runtime: where the batch is, and what the convolutions multiply.
    """

    mode: NormMode = struct.field(pytree_node=False, default="image")
    adapt: float | Float[Array, ""] = 0.1
    stage: int = struct.field(pytree_node=False, default=0)
    runtime: RuntimeOptions = struct.field(pytree_node=False, default=RuntimeOptions())

    def at(self, stage: int) -> NormContext:
        """The same choice for another stage."""
        return self.replace(stage=stage)  # type: ignore[attr-defined]


def check_norm(mode: str) -> None:
    """Raises ValueError, naming the choices, when `mode` is not a norm mode."""
    if mode not in get_args(NormMode):
        raise ValueError(f"norm must be one of {', '.join(get_args(NormMode))}; got {mode!r}")


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """torch's default for the weights and biases of Conv2d and Linear: uniform in +-1/sqrt(fan_in)."""
    bound = fan_in**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def he_uniform(fan_in: int) -> nn.initializers.Initializer:
    """Keeps the mean square of the signal through convolution and ReLU (He et al. 2015); biases start at 0."""
    bound = (6 / fan_in) ** 0.5

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        if len(shape) == 1:
            return jnp.zeros(shape, dtype)
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """Square convolution, stride 1, zero padding that keeps the size.

    Attributes:
        features: D, channels of the output.
        kernel: its side, odd.
        dilation: distance of its taps.
        use_bias: whether there is a bias.
        channel_axis: where the channels are, -1: (B, H, W, C) or, for a 1x1 kernel, 1: (B, C, H, W).
        initial: of kernel and bias, by the number of inputs of a value.
    """

    features: int
    kernel: int = 3
    dilation: int = 1
    use_bias: bool = True
    channel_axis: int = -1
    initial: Callable[[int], nn.initializers.Initializer] = torch_uniform

    @nn.compact
    def __call__(self, x: Float[Array, "b _ _ _"], precision: Precision = "float32") -> Float[Array, "b _ _ _"]:
        """Channels in the middle are those of spectra, which are float32 whatever `precision` says."""
        channels = x.shape[self.channel_axis]
        init = self.initial(self.kernel * self.kernel * channels)
        kernel = self.param("kernel", init, (self.kernel, self.kernel, channels, self.features))
        if self.channel_axis == -1:
            y = conv2d(x, kernel, self.dilation, precision)
        else:
            # Refused by the assignment when the kernel is not 1x1.
            ((weights,),) = kernel
            y = mix_channels(x, weights)
        if not self.use_bias:
            return y
        return y + along(self.channel_axis, self.param("bias", init, (self.features,)))


def along(channel_axis: int, values: Float[Array | np.ndarray, " c"]) -> Float[Array | np.ndarray, "..."]:
    """Values of the channels, shaped to be combined with a batch of feature maps."""
    return values if channel_axis == -1 else values[:, None, None]


class StageNorm(nn.Module):
    """Batch normalisation whose affine parameters are shared by the stages and whose running statistics are not.

    One BatchNorm shared by N stages with different activations has running statistics that fit none of them:
    that is why the released network only works on each image's own statistics. Here scale and bias have shape
    (C,), running mean and variance (rows, C). Semantics are torch's: momentum 0.1 of the new value, running
    variance unbiased, normalising variance biased, epsilon 1e-5.

    Attributes:
        rows: number of stages that use this layer with statistics of their own.
        channel_axis: where the channels are, -1: (B, H, W, C) or 1: (B, C, H, W).
    """

    rows: int = 1
    channel_axis: int = -1

    @property
    def pixel_axes(self) -> tuple[int, int]:
        """The two axes of the pixels."""
        return (1, 2) if self.channel_axis == -1 else (2, 3)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b _ _ _"], statistics: NormContext, offset: Float[Array, " c"] | float = 0.0
    ) -> Float[Array, "b _ _ _"]:
        """Normalises; `offset` is what x lacks of the values whose mean is to be stored in `batch` mode."""
        channels = x.shape[self.channel_axis]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        stored_mean = self.variable("batch_stats", "mean", jnp.zeros, (self.rows, channels))
        stored_var = self.variable("batch_stats", "var", jnp.ones, (self.rows, channels))
        row = statistics.stage if self.rows > 1 else 0

        if statistics.mode == "batch":
            axis = statistics.runtime.axis
            pixels = (0, *self.pixel_axes)
            y, batch_mean, batch_var = batch_norm(x, self._along(scale), self._along(bias), pixels, axis)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                count = x.size // channels * (jax.lax.axis_size(axis) if axis else 1)
                unbiased = batch_var.reshape(channels) * (count / (count - 1))
                # The same everywhere, which is to be known of what is stored.
                lacking = jax.lax.pmean(offset, axis) if axis else offset
                stored_mean.value = _moved(stored_mean.value, row, batch_mean.reshape(channels) + lacking)
                stored_var.value = _moved(stored_var.value, row, unbiased)
            return y
        if statistics.mode == "running":
            mean, var = self._along(stored_mean.value[row]), self._along(stored_var.value[row])
        else:
            mean, var = moments(x, self.pixel_axes)
            if statistics.mode == "adaptive":
                a = jnp.asarray(statistics.adapt, x.dtype)
                mean = a * mean + (1 - a) * self._along(stored_mean.value[row])
                var = (var + EPSILON) ** a * (self._along(stored_var.value[row]) + EPSILON) ** (1 - a) - EPSILON
        return normalised(x, mean, jax.lax.rsqrt(var + EPSILON) * self._along(scale), self._along(bias))

    def _along(self, values: Array | np.ndarray) -> Array | np.ndarray:
        return along(self.channel_axis, values)


def _moved(stored: Array, row: int, new: Array) -> Array:
    return stored.at[row].set((1 - MOMENTUM) * stored[row] + MOMENTUM * jax.lax.stop_gradient(new))


class ConvBlock(nn.Module):
    """CB of the paper: convolution, norm, activation (ReLU unless said otherwise); `channel_axis` as in `Conv`.

    Without a norm nothing else keeps the signal's size from stage to stage: the convolution then starts as He's.
    """

    features: int
    kernel: int = 3
    dilation: int = 1
    use_bias: bool = True
    rows: int = 1
    activation: Activation = jax.nn.relu
    channel_axis: int = -1

    @nn.compact
    def __call__(self, x: Float[Array, "b _ _ _"], statistics: NormContext) -> Float[Array, "b _ _ _"]:
        folded = statistics.mode == "folded"
        # The pixels' own mean takes any constant away: to add the bias, and to sum up its gradient of 0, would be
        # passes for nothing. The running mean has it.
        idle = statistics.mode in ("image", "batch") and not self.is_initializing()
        use_bias = (self.use_bias or folded) and not idle
        init = he_uniform if statistics.mode == "none" else torch_uniform
        conv = Conv(self.features, self.kernel, self.dilation, use_bias, self.channel_axis, init, name="conv")
        x = conv(x, statistics.runtime.precision)
        if statistics.mode in ("folded", "none"):
            return self.activation(x)
        offset = conv.get_variable("params", "bias") if self.use_bias and idle else jnp.zeros(self.features)
        return self.activation(StageNorm(self.rows, self.channel_axis, name="norm")(x, statistics, offset))


class ChannelAttention(nn.Module):
    """CA of Eq. 3: average pooling, two dense layers (reduction 4), sigmoid; scales the channels of its input."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        hidden = channels // 4
        pooled = jnp.mean(x, (1, 2), keepdims=True)
        squeezed = jax.nn.relu(_dense(hidden, channels, "squeeze")(pooled))
        return x * jax.nn.sigmoid(_dense(channels, hidden, "excite")(squeezed))


def _dense(features: int, fan_in: int, name: str) -> nn.Dense:
    init = torch_uniform(fan_in)
    return nn.Dense(features, kernel_init=init, bias_init=init, name=name)


class SpatialAttention(nn.Module):
    """SA of Eq. 3: CB 1x1 to half the channels, convolution 7x7 to one map, sigmoid; scales the pixels of its input."""

    rows: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], statistics: NormContext) -> Float[Array, "b h w c"]:
        reduced = ConvBlock(x.shape[-1] // 2, kernel=1, rows=self.rows, name="reduce")(x, statistics)
        return x * jax.nn.sigmoid(Conv(1, kernel=7, name="map")(reduced, statistics.runtime.precision))
