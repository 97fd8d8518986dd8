"""Square convolutions, and the products that they and their kernels' gradients amount to on CPU.

XLA's CPU code for the gradient of a convolution's kernel takes several times as long as the matrix product that it
amounts to, and for products over the channels XLA transposes whole batches that it need not. What is here computes
the same without; GPU and TPU keep XLA's own.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

# Pixels that go into one matrix product of a kernel's gradient: the larger the faster, but every core wants its share
# of an image.
_PIXELS = 8192
# With so few channels on one side XLA's own kernel gradient is faster than a product of such a width.
_NARROW = 2


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], dilation: int = 1, precision: Precision = "float32"
) -> Float[Array, "b h w d"]:
    """Cross-correlation with stride 1 and zero padding that keeps the size; k odd.

    Differentiable in reverse mode (`jax.grad`, `jax.vjp`).

    Args:
        x: float32.
        kernel: float32.
        dilation: distance of its taps.
        precision: `bfloat16` rounds what is multiplied, in the gradient as well; see `RuntimeOptions`.
    """
    if precision == "bfloat16":
        return _rounded_conv2d(x, kernel, dilation)
    return _conv2d(x, kernel, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv2d(x: Array, kernel: Array, dilation: int) -> Array:
    return _xla_conv2d(x, kernel, dilation)


def _forward(x: Array, kernel: Array, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    return _xla_conv2d(x, kernel, dilation), (x, kernel)


def _backward(dilation: int, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (dx,) = jax.vjp(lambda x: _xla_conv2d(x, kernel, dilation), x)[1](dy)

    def xla(x: Array, dy: Array) -> Array:
        return jax.vjp(lambda kernel: _xla_conv2d(x, kernel, dilation), kernel)[1](dy)[0]

    if min(kernel.shape[2:]) <= _NARROW:
        return dx, xla(x, dy)
    product = functools.partial(kernel_gradient, size=kernel.shape[0], dilation=dilation)
    return dx, jax.lax.platform_dependent(x, dy, cpu=product, default=xla)


_conv2d.defvjp(_forward, _backward)


def _xla_conv2d(x: Array, kernel: Array, dilation: int, out: Any = None) -> Array:
    if kernel.shape[0] == 1:
        return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0], preferred_element_type=out)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=out,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded_conv2d(x: Array, kernel: Array, dilation: int) -> Array:
    return _bfloat16_conv2d(_round(x), _round(kernel), dilation)


def _rounded_forward(x: Array, kernel: Array, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    x, kernel = _round(x), _round(kernel)
    return _bfloat16_conv2d(x, kernel, dilation), (x, kernel)


def _rounded_backward(dilation: int, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    dy = _round(dy)
    # Each tap's way back.
    dx = _bfloat16_conv2d(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), dilation)

    def xla(x: Array, dy: Array) -> Array:
        (dkernel,) = jax.vjp(lambda kernel: _xla_conv2d(x, kernel, dilation), kernel)[1](dy)
        return dkernel.astype(jnp.float32)

    own = functools.partial(kernel_gradient, size=kernel.shape[0], dilation=dilation)
    return dx, jax.lax.platform_dependent(x, dy, cpu=own, default=xla)


_rounded_conv2d.defvjp(_rounded_forward, _rounded_backward)


def _round(x: Array) -> Array:
    return x.astype(jnp.bfloat16)


def _bfloat16_conv2d(x: Array, kernel: Array, dilation: int) -> Array:
    """bfloat16 to float32. cuDNN, which sums in float32 too, is asked for the types that it is known to take."""
    return jax.lax.platform_dependent(
        x,
        kernel,
        cuda=lambda x, kernel: _xla_conv2d(x, kernel, dilation).astype(jnp.float32),
        default=lambda x, kernel: _xla_conv2d(x, kernel, dilation, jnp.float32),
    )


@jax.custom_vjp
def mix_channels(x: Float[Array, "b c h w"], weights: Float[Array, "c d"]) -> Float[Array, "b d h w"]:
    """The 1x1 convolution of maps whose channels come first. Differentiable in reverse mode."""
    return jax.lax.platform_dependent(x, weights, cpu=_mix_each, default=_mix)


def _mix_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    pull = {
        platform: lambda x, weights, dy, mix=mix: jax.vjp(mix, x, weights)[1](dy)
        for platform, mix in (("cpu", _mix_each), ("default", _mix))
    }
    return jax.lax.platform_dependent(*saved, dy, **pull)


mix_channels.defvjp(lambda x, weights: (mix_channels(x, weights), (x, weights)), _mix_backward)


def _mix(x: Array, weights: Array) -> Array:
    return jnp.einsum("bchw,cd->bdhw", x, weights)


def _mix_each(x: Array, weights: Array) -> Array:
    """One product for each image: a single one for the batch would need the channels last or first of all axes."""
    batch, channels, height, width = x.shape
    each = jnp.broadcast_to(weights, (batch, *weights.shape))
    return jnp.einsum("bcp,bcd->bdp", x.reshape(batch, channels, -1), each).reshape(batch, -1, height, width)


def kernel_gradient(
    x: Float[Array, "b h w c"], dy: Float[Array, "b h w d"], size: int, dilation: int
) -> Float32[Array, "k k c d"]:
    """Gradient of `conv2d` with respect to its kernel, as one batched matrix product.

    dk[i, j] = sum over h, w of x[h + i*r, w + j*r] * dy[h, w] = sum over h', w of x[h', w + j*r] * dy[h' - i*r, w]: the
    k column shifts of x against the k row shifts of dy, all k*k pairs in one product (k*C, rows*W) by (rows*W, k*D).

    Args:
        x: the convolution's input.
        dy: gradient of its output.
        size: k, side of the kernel.
        dilation: r.
    """
    if size == 1:
        # Nothing is laid side by side, and images are multiplied as they lie in memory: as one axis, since XLA
        # transposes where two are summed over.
        x, dy = (image.reshape(len(image), -1, image.shape[-1]) for image in (x, dy))
        return jnp.einsum("bpc,bpd->bcd", x, dy, preferred_element_type=jnp.float32).sum(0)[None, None]
    # One image at a time: what is laid side by side stays in cache and takes the memory of one image.
    products = jax.lax.map(lambda image: _shifted_product(image[0], image[1], size, dilation), (x, dy)).sum(0)
    return products.reshape(size, x.shape[-1], size, dy.shape[-1]).transpose(2, 0, 1, 3)


def _shifted_product(
    x: Float[Array, "h w c"], dy: Float[Array, "h w d"], size: int, dilation: int
) -> Float[Array, "n m"]:
    """The product of one image; n = k*C, m = k*D."""
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


Precision = Literal["float32", "bfloat16"]
