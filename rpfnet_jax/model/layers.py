"""Building blocks shared by all modules: normalisation with per-stage statistics, CB, channel and spatial attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from rpfnet_jax.model.convolution import conv2d

NormMode = Literal["batch", "image", "running", "adaptive"]
Activation = Callable[[Array], Array]

# torch.nn.BatchNorm2d's defaults, which the authors use.
MOMENTUM = 0.1
EPSILON = 1e-5


@struct.dataclass
class Statistics:
    """Where the norm layers take mean and variance from during one pass through the network.

    One value travels through all modules instead of a flag per choice.

    Attributes:
        mode: `batch`: over the whole batch, and the running statistics are updated when the collection
            `batch_stats` is mutable (training). `image`: each image's own, independent of its neighbours in the
            batch (what the authors published). `running`: the stored ones of the stage. `adaptive`: between the
            last two, mean = a*image + (1-a)*running and std = image^a * running^(1-a), with a = `adapt`.
        adapt: the a of `adaptive`, in [0, 1]; may be traced.
        stage: index of the stage being computed; picks the row of the running statistics.
    """

    mode: NormMode = struct.field(pytree_node=False, default="image")
    adapt: float | Float[Array, ""] = 0.1
    stage: int = struct.field(pytree_node=False, default=0)

    def at(self, stage: int) -> Statistics:
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


class Conv(nn.Module):
    """Square convolution, stride 1, zero padding that keeps the size, torch's initialisation."""

    features: int
    kernel: int = 3
    dilation: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        init = torch_uniform(self.kernel * self.kernel * x.shape[-1])
        y = conv2d(x, self.param("kernel", init, shape), self.dilation)
        return y + self.param("bias", init, (self.features,)) if self.use_bias else y


class StageNorm(nn.Module):
    """Batch normalisation whose affine parameters are shared by the stages and whose running statistics are not.

    One BatchNorm shared by N stages with different activations has running statistics that fit none of them:
    that is why the released network only works on each image's own statistics. Here scale and bias have shape
    (C,), running mean and variance (rows, C). Semantics are torch's: momentum 0.1 of the new value, running
    variance unbiased, normalising variance biased, epsilon 1e-5. The variance is computed in two passes because
    E[x^2] - E[x]^2 loses digits in float32.

    Attributes:
        rows: number of stages that use this layer with statistics of their own.
    """

    rows: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], statistics: Statistics) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        stored_mean = self.variable("batch_stats", "mean", jnp.zeros, (self.rows, channels))
        stored_var = self.variable("batch_stats", "var", jnp.ones, (self.rows, channels))
        row = statistics.stage if self.rows > 1 else 0

        if statistics.mode == "running":
            mean, var = stored_mean.value[row], stored_var.value[row]
        else:
            axes = (0, 1, 2) if statistics.mode == "batch" else (1, 2)
            mean = jnp.mean(x, axes, keepdims=True)
            var = jnp.mean(jnp.square(x - mean), axes, keepdims=True)
            if statistics.mode == "batch" and self.is_mutable_collection("batch_stats") and not self.is_initializing():
                count = x.size // channels
                unbiased = var.reshape(channels) * (count / (count - 1))
                stored_mean.value = _moved(stored_mean.value, row, mean.reshape(channels))
                stored_var.value = _moved(stored_var.value, row, unbiased)
            if statistics.mode == "adaptive":
                a = jnp.asarray(statistics.adapt, x.dtype)
                mean = a * mean + (1 - a) * stored_mean.value[row]
                var = (var + EPSILON) ** a * (stored_var.value[row] + EPSILON) ** (1 - a) - EPSILON
        return (x - mean) * (jax.lax.rsqrt(var + EPSILON) * scale) + bias


def _moved(stored: Array, row: int, new: Array) -> Array:
    return stored.at[row].set((1 - MOMENTUM) * stored[row] + MOMENTUM * jax.lax.stop_gradient(new))


class ConvBlock(nn.Module):
    """CB of the paper: convolution, norm, activation (ReLU unless said otherwise)."""

    features: int
    kernel: int = 3
    dilation: int = 1
    use_bias: bool = True
    rows: int = 1
    activation: Activation = jax.nn.relu

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], statistics: Statistics) -> Float[Array, "b h w d"]:
        x = Conv(self.features, self.kernel, self.dilation, self.use_bias, name="conv")(x)
        return self.activation(StageNorm(self.rows, name="norm")(x, statistics))


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
    def __call__(self, x: Float[Array, "b h w c"], statistics: Statistics) -> Float[Array, "b h w c"]:
        reduced = ConvBlock(x.shape[-1] // 2, kernel=1, rows=self.rows, name="reduce")(x, statistics)
        return x * jax.nn.sigmoid(Conv(1, kernel=7, name="map")(reduced))
