"""Square convolutions, and the gradient of their kernels on CPU.

XLA's CPU code for the gradient of a convolution's kernel takes several times as long as the matrix product that it
amounts to. `conv2d` computes that product on CPU; GPU and TPU keep XLA's own.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from rpfnet_jax.model.execution import Precision

# Image rows that go into one matrix product: few enough to stay in cache, many enough to keep the cores busy.
_ROWS = 8


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], dilation: int = 1, precision: Precision = "float32"
) -> Float[Array, "b h w d"]:
    """Cross-correlation with stride 1 and zero padding that keeps the size; k odd.

    Differentiable in reverse mode (`jax.grad`, `jax.vjp`).

    Args:
        x: float32.
        kernel: float32.
        dilation: distance of its taps.
        precision: `bfloat16` rounds what is multiplied, in the gradient as well; see `Execution`.
    """
    if precision == "bfloat16":
        return _rounded_conv2d(x, kernel, dilation)
    if kernel.shape[0] == 1:
        # The gradient of a product is a product, on every backend.
        return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0])
    return _conv2d(x, kernel, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv2d(x: Array, kernel: Array, dilation: int) -> Array:
    return _xla_conv2d(x, kernel, dilation)


def _forward(x: Array, kernel: Array, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    return _xla_conv2d(x, kernel, dilation), (x, kernel)


def _backward(dilation: int, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (dx,) = jax.vjp(lambda x: _xla_conv2d(x, kernel, dilation), x)[1](dy)
    dkernel = jax.lax.platform_dependent(
        x,
        dy,
        cpu=functools.partial(kernel_gradient, size=kernel.shape[0], dilation=dilation),
        default=lambda x, dy: jax.vjp(lambda kernel: _xla_conv2d(x, kernel, dilation), kernel)[1](dy)[0],
    )
    return dx, dkernel


_conv2d.defvjp(_forward, _backward)


def _xla_conv2d(x: Array, kernel: Array, dilation: int, out: Any = None) -> Array:
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
    height, width, channels, features = *x.shape[1:], dy.shape[-1]
    reach = (size - 1) * dilation
    rows = height + reach
    spare = -rows % _ROWS
    x = jnp.pad(x, ((0, 0), (reach // 2, reach // 2 + spare), (reach // 2, reach // 2), (0, 0)))
    dy = jnp.pad(dy, ((0, 0), (reach, reach + spare), (0, 0), (0, 0)))
    columns = jnp.concatenate([x[:, :, j * dilation :][:, :, :width] for j in range(size)], -1)
    shifted = jnp.concatenate([dy[:, reach - i * dilation :][:, : rows + spare] for i in range(size)], -1)
    columns = columns.reshape(-1, _ROWS * width, size * channels)
    shifted = shifted.reshape(-1, _ROWS * width, size * features)
    products = jnp.einsum("npc,npd->ncd", columns, shifted, preferred_element_type=jnp.float32).sum(0)
    return products.reshape(size, channels, size, features).transpose(2, 0, 1, 3)
