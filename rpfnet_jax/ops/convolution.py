"""Square convolutions that are fast on CPU and on NVIDIA GPUs.

Those of 3x3 and to one map run in native code where it was built (`rpfnet_jax.native`), forward and for the gradient of
the input. XLA's CPU code for the gradient of a kernel takes several times as long as the equivalent matrix product, and
its products over channels transpose whole batches without need. On CUDA the gradient of a dilated kernel becomes a
convolution with a window as large as the image. The functions here compute the same values without that overhead;
everything else, on GPU and TPU, is XLA's own.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from rpfnet_jax import native

# Rounding of what convolutions over pixels multiply; `tf32` differs from `float32` on NVIDIA GPUs since Ampere only.
Precision = Literal["float32", "tf32", "bfloat16"]

# Pixels in one matrix product of a kernel's gradient: larger products are faster, but every core needs one to work on.
_PIXELS = 8192
# With this many input or output channels, or fewer, XLA's own kernel gradient is faster than so narrow a product.
_NARROW = 2


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def conv2d(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c d"],
    bias: Float[Array, " d"] | None = None,
    dilation: int = 1,
    precision: Precision = "float32",
    relu: bool = False,
) -> Float[Array, "b h w d"]:
    """Cross-correlates with stride 1 and zero padding that keeps the size; k is odd.

    Differentiable in reverse mode (`jax.grad`, `jax.vjp`).

    Args:
        x: float32 feature maps.
        kernel: float32 weights.
        bias: added to each output map.
        dilation: distance in pixels between neighbouring taps.
        precision: `tf32` lets tensor cores round the operands of every product to 10 bits after the point, `bfloat16`
            rounds them to 7, in the gradient as well; sums and results are float32 either way.
        relu: whether the result's positive part is taken.
    """
    return _forward(x, kernel, bias, dilation, precision, relu)[0]


def _forward(
    x: Array, kernel: Array, bias: Array | None, dilation: int, precision: Precision, relu: bool
) -> tuple[Array, tuple[Array | None, ...]]:
    chex.assert_rank([x, kernel], 4)

    def xla(x: Array, kernel: Array, bias: Array | None) -> Array:
        rounded = precision == "bfloat16"
        y = _rounded_conv2d(x, kernel, dilation) if rounded else _xla_conv2d(x, kernel, dilation, precision)
        y = y if bias is None else y + bias
        return jax.nn.relu(y) if relu else y

    if precision == "bfloat16":
        x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
        y = xla(x, kernel, bias)
    elif native.suits(kernel.shape, x.dtype):
        own = functools.partial(native.convolve, dilation=dilation, relu=relu)
        y = jax.lax.platform_dependent(x, kernel, bias, cpu=own, default=xla)
    else:
        y = xla(x, kernel, bias)
    return y, (x, kernel, bias, y if relu else None)


def _backward(
    dilation: int, precision: Precision, relu: bool, saved: tuple[Any, ...], dy: Array
) -> tuple[Array, Array, Array | None]:
    x, kernel, bias, y = saved
    if relu:
        dy = jnp.where(y > 0, dy, 0)
    dbias = None if bias is None else dy.sum((0, 1, 2))
    if precision == "bfloat16":
        dy = dy.astype(jnp.bfloat16)
        # Written out because JAX's own derivative would return bfloat16: dy correlated with the mirrored kernel.
        dx = _rounded_conv2d(dy, _mirrored(kernel), dilation)
    else:
        dx = _input_gradient(x, kernel, dy, dilation, precision)

    def xla(x: Array, dy: Array, dilation: int = dilation) -> Array:
        (dkernel,) = jax.vjp(lambda kernel: _xla_conv2d(x, kernel, dilation, precision), kernel)[1](dy)
        return dkernel.astype(jnp.float32)

    def undilated(x: Array, dy: Array) -> Array:
        return xla(split_phases(x, dilation), split_phases(dy, dilation), 1)

    narrow = precision != "bfloat16" and min(kernel.shape[2:]) <= _NARROW
    product = functools.partial(kernel_gradient, size=kernel.shape[0], dilation=dilation)
    cuda = xla if dilation == 1 else undilated
    return dx, jax.lax.platform_dependent(x, dy, cpu=xla if narrow else product, cuda=cuda, default=xla), dbias


conv2d.defvjp(_forward, _backward)


def split_phases(x: Float[Array, "b h w c"], dilation: int) -> Float[Array, "n i j c"]:
    """Splits images into r*r images of every r-th pixel, padded with zeros to equal sizes, which join the batch.

    A kernel of dilation r never relates pixels of different phases; within one it is not dilated. XLA recognises the
    kernel's gradient only then as cuDNN's backward filter; it hands the dilated one over as a forward convolution with
    a window of the image's size (openxla/xla#34273).
    """
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % dilation), (0, -width % dilation), (0, 0)))
    parts = x.reshape(batch, x.shape[1] // dilation, dilation, x.shape[2] // dilation, dilation, channels)
    return parts.transpose(0, 2, 4, 1, 3, 5).reshape(-1, parts.shape[1], parts.shape[3], channels)


def _xla_conv2d(x: Array, kernel: Array, dilation: int, precision: Precision, out: Any = None) -> Array:
    # Without "highest" NVIDIA GPUs multiply in TF32. Other processors compute the same either way.
    multiply = "highest" if precision == "float32" else "default"
    if kernel.shape[0] == 1:
        return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0], precision=multiply, preferred_element_type=out)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=multiply,
        preferred_element_type=out,
    )


def _mirrored(kernel: Array) -> Array:
    """The kernel that turns a gradient of the output into that of the input, by the same convolution."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _input_gradient(x: Array, kernel: Array, dy: Array, dilation: int, precision: Precision) -> Array:
    def xla(x: Array, kernel: Array, dy: Array) -> Array:
        return jax.vjp(lambda x: _xla_conv2d(x, kernel, dilation, precision), x)[1](dy)[0]

    def own(x: Array, kernel: Array, dy: Array) -> Array:
        return native.convolve(dy, _mirrored(kernel), dilation=dilation)

    size, _, channels, features = kernel.shape
    if not native.suits((size, size, features, channels), x.dtype):
        return xla(x, kernel, dy)
    return jax.lax.platform_dependent(x, kernel, dy, cpu=own, default=xla)


def _rounded_conv2d(x: Array, kernel: Array, dilation: int) -> Array:
    """Convolves bfloat16 operands into float32."""
    # cuDNN sums in float32 too, but is only certain to support results of the operands' type.
    return jax.lax.platform_dependent(
        x,
        kernel,
        cuda=lambda x, kernel: _xla_conv2d(x, kernel, dilation, "bfloat16").astype(jnp.float32),
        default=lambda x, kernel: _xla_conv2d(x, kernel, dilation, "bfloat16", jnp.float32),
    )


def kernel_gradient(
    x: Float[Array, "b h w c"], dy: Float[Array, "b h w d"], size: int, dilation: int
) -> Float32[Array, "k k c d"]:
    """Computes the gradient of `conv2d` with respect to its kernel as one batched matrix product.

    dk[i, j] = sum over h, w of x[h + i*r, w + j*r] * dy[h, w] = sum over h', w of x[h', w + j*r] * dy[h' - i*r, w]: the
    k column shifts of x times the k row shifts of dy, all k*k pairs in one product (k*C, rows*W) by (rows*W, k*D).

    Args:
        x: input of the convolution.
        dy: gradient of its output.
        size: k, side of the kernel.
        dilation: r.
    """
    chex.assert_rank([x, dy], 4)
    chex.assert_equal_shape_prefix([x, dy], 3)
    if size == 1:
        # The pixels become one axis, because XLA transposes both operands for a sum over two.
        x, dy = (image.reshape(len(image), -1, image.shape[-1]) for image in (x, dy))
        return jnp.einsum("bpc,bpd->bcd", x, dy, preferred_element_type=jnp.float32).sum(0)[None, None]
    # One image at a time, so that its shifted copies stay in cache and take the memory of a single image.
    products = jax.lax.map(lambda image: _shifted_product(image[0], image[1], size, dilation), (x, dy)).sum(0)
    return products.reshape(size, x.shape[-1], size, dy.shape[-1]).transpose(2, 0, 1, 3)


def _shifted_product(
    x: Float[Array, "h w c"], dy: Float[Array, "h w d"], size: int, dilation: int
) -> Float[Array, "n m"]:
    """Multiplies the shifts of one image; n = k*C, m = k*D."""
    height, width, channels, features = *x.shape, dy.shape[-1]
    reach = (size - 1) * dilation
    rows = height + reach
    pieces = max(1, rows * width // _PIXELS)
    spare = -rows % pieces
    x = jnp.pad(x, ((reach // 2, reach // 2 + spare), (reach // 2, reach // 2), (0, 0)))
    dy = jnp.pad(dy, ((reach, reach + spare), (0, 0), (0, 0)))
    columns = jnp.concatenate([x[:, j * dilation :][:, :width] for j in range(size)], -1)
    shifted = jnp.concatenate([dy[reach - i * dilation :][: rows + spare] for i in range(size)], -1)
    columns = columns.reshape(pieces, -1, size * channels)
    shifted = shifted.reshape(pieces, -1, size * features)
    return jnp.einsum("npc,npd->ncd", columns, shifted, preferred_element_type=jnp.float32).sum(0)


def mix_channels(x: Float[Array, "b c h w"], weights: Float[Array, "c d"]) -> Float[Array, "b d h w"]:
    """Applies a 1x1 convolution to channels-first maps, in float32 also on GPUs with TF32."""
    chex.assert_rank([x, weights], [4, 2])
    batch, channels, height, width = x.shape
    # Image by image: one product for the batch would need the channels as first or last axis, a transposition.
    each = jnp.broadcast_to(weights, (batch, *weights.shape))
    mixed = jnp.einsum("bcp,bcd->bdp", x.reshape(batch, channels, -1), each, precision="highest")
    return mixed.reshape(batch, -1, height, width)
