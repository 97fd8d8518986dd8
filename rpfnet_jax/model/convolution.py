"""Square convolutions, and the gradient of their kernels on CPU.

XLA's CPU code for the gradient of a convolution's kernel takes several times as long as the matrix product that it
amounts to. `conv2d` computes that product on CPU; GPU and TPU keep XLA's own.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Image rows that go into one matrix product: few enough to stay in cache, many enough to keep the cores busy.
_ROWS = 8


def conv2d(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], dilation: int = 1) -> Float[Array, "b h w d"]:
    """Cross-correlation with stride 1 and zero padding that keeps the size; k odd.

    Differentiable in reverse mode (`jax.grad`, `jax.vjp`).
    """
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


def _xla_conv2d(x: Array, kernel: Array, dilation: int) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(dilation, dilation), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def kernel_gradient(
    x: Float[Array, "b h w c"], dy: Float[Array, "b h w d"], size: int, dilation: int
) -> Float[Array, "k k c d"]:
    """Gradient of `conv2d` with respect to its kernel, as one batched matrix product.

    dk[i, j] = sum over h, w of x[h + i*r, w + j*r] * dy[h, w] = sum over h', w of x[h', w + j*r] * dy[h' - i*r, w]: the
    k column shifts of x against the k row shifts of dy, all k*k pairs in one product (k*C, rows*W) by (rows*W, k*D).

    Args:
        x: the convolution's input.
        dy: gradient of its output.
        size: k, side of the kernel.
        dilation: r.
    """
    start = jnp.zeros((size * x.shape[-1], size * dy.shape[-1]), x.dtype)
    # One image at a time: what is laid side by side stays in cache and takes the memory of one image.
    products, _ = jax.lax.scan(
        lambda total, image: (total + _shifted_product(*image, size, dilation), None), start, (x, dy)
    )
    return products.reshape(size, x.shape[-1], size, dy.shape[-1]).transpose(2, 0, 1, 3)


def _shifted_product(x: Float[Array, "h w c"], dy: Float[Array, "h w d"], size: int, dilation: int) -> Float[Array, "n m"]:
    """The product of one image; n = k*C, m = k*D."""
    height, width, channels, features = *x.shape, dy.shape[-1]
    reach = (size - 1) * dilation
    rows = height + reach
    spare = -rows % _ROWS
    x = jnp.pad(x, ((reach // 2, reach // 2 + spare), (reach // 2, reach // 2), (0, 0)))
    dy = jnp.pad(dy, ((reach, reach + spare), (0, 0), (0, 0)))
    columns = jnp.concatenate([x[:, j * dilation :][:, :width] for j in range(size)], -1)
    shifted = jnp.concatenate([dy[reach - i * dilation :][: rows + spare] for i in range(size)], -1)
    columns = columns.reshape(-1, _ROWS * width, size * channels)
    shifted = shifted.reshape(-1, _ROWS * width, size * features)
    return jnp.einsum("npc,npd->ncd", columns, shifted).sum(0)
