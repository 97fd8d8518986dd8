"""What `rpfnet_jax.ops` and `data.color` compute, as ONNX graphs on channels-first tensors, (B, C, H, W)."""

from __future__ import annotations

import math

import numpy as np

from rpfnet_jax.export.graph import Graph, Tensor
from rpfnet_jax.ops import tone
from rpfnet_jax.ops.filters import SPLINE_TAPS

# The luma weights of BT.601, as in `rpfnet_jax.data.color`.
_LUMA = (0.299, 0.587, 0.114)


def conv2d(x: Tensor, kernel: np.ndarray, bias: np.ndarray | None = None, dilation: int = 1) -> Tensor:
    """Mirrors `ops.convolution.conv2d`; the kernel is (k, k, C, D)."""
    size = kernel.shape[0]
    operands = [np.transpose(kernel, (3, 2, 0, 1)), *([] if bias is None else [bias])]
    margin = dilation * (size // 2)
    return x.graph("Conv", x, *operands, kernel_shape=[size] * 2, pads=[margin] * 4, dilations=[dilation] * 2)


class Fourier:
    """Mirrors `ops.spectral`: orthonormal transforms as products with matrices that the graph makes from the size.

    Spectra are (B, 2C, H, W // 2 + 1), all real parts before all imaginary ones. ONNX's own DFT is no alternative: ONNX
    Runtime takes seconds for it, and OpenVINO and TensorRT do not have it in this form.

    Args:
        like: a tensor of the images' height and width.
    """

    def __init__(self, like: Tensor):
        graph = like.graph
        height, width = like.size(2), like.size(3)
        columns = graph.range(0, width / 2 + 1)
        scale = 1.0 / graph("Sqrt", height.cast("float32") * width.cast("float32"))
        cosine, sine = self._matrix(graph.range(0, width), columns, width)
        self._over_width = graph.concat(cosine, 0.0 - sine, axis=1) * scale
        # Of a real signal all columns but the first and, of an even width, the last stand for their mirrored ones too.
        single = graph("Or", graph("Equal", columns, 0), graph("Equal", columns * 2, width))
        weights = graph("Where", single, 1.0, 2.0)
        back = graph.concat(cosine * weights, 0.0 - sine * weights, axis=1)
        self._back_over_width = back.transpose(1, 0)
        cosine, sine = self._matrix(graph.range(0, height), graph.range(0, height), height)
        rows = graph.concat(cosine, sine, axis=1), graph.concat(0.0 - sine, cosine, axis=1)
        self._over_height = graph.concat(*rows, axis=0)
        self._back_over_height = self._over_height.transpose(1, 0) * scale

    @staticmethod
    def _matrix(rows: Tensor, columns: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angles; their multiples of a whole turn are taken away while they are integers."""
        turns = (rows.unsqueeze(1) * columns.unsqueeze(0)) % size
        angles = turns.cast("float32") / size.cast("float32") * (2 * math.pi)
        return angles.graph("Cos", angles), angles.graph("Sin", angles)

    def rfft2(self, x: Tensor) -> Tensor:
        """Transforms (B, C, H, W)."""
        columns = x.graph.concat(*(x @ self._over_width).halves(3), axis=2)
        return x.graph.concat(*(self._over_height @ columns).halves(2), axis=1)

    def irfft2(self, z: Tensor) -> Tensor:
        """Inverts `rfft2`."""
        columns = self._back_over_height @ z.graph.concat(*z.halves(1), axis=2)
        return z.graph.concat(*columns.halves(2), axis=3) @ self._back_over_width


class FixedFourier:
    """Does what `Fourier` does for one size, known when the graph is made, in fewer operations.

    A side n = p * q is transformed by Cooley and Tukey's step: p-point transforms, a rotation, q-point transforms, with
    p the divisor nearest to the root of n. Of a prime side, p is 1.
    """

    def __init__(self, channels: int, height: int, width: int):
        self.channels, self.height, self.width = channels, height, width
        self.columns = width // 2 + 1
        self.scale = 1 / math.sqrt(height * width)

    def rfft2(self, x: Tensor) -> Tensor:
        """Transforms (B, C, H, W)."""
        p, q = _factors(self.width)
        kept = -(-self.columns // p)
        first = _roots(p, p, p, -1) * self.scale
        z = np.concatenate([first.real, first.imag]) @ x.reshape(0, self.channels, self.height, p, q)
        re, im = _rotated(z.halves(3), _roots(p, q, self.width, -1))
        z = x.graph.concat(re, im, axis=4) @ _from_right(_roots(q, kept, q, -1))
        # k = k1 + p * k2, and real parts come before imaginary ones.
        z = z.reshape(0, self.channels, self.height, p, 2, kept).transpose(0, 4, 1, 2, 5, 3)
        z = z.reshape(0, 2 * self.channels, self.height, kept * p)
        return self._over_height(x.graph("Slice", z, [0], [self.columns], [3]), -1)

    def irfft2(self, z: Tensor) -> Tensor:
        """Inverts `rfft2`."""
        p, q = _factors(self.width)
        kept = -(-self.columns // p)
        weights = np.full(kept * p, 2 * self.scale)
        # See `Fourier`. What follows the last column is multiplied by the zeros of the padding.
        weights[[0, self.width // 2] if self.width % 2 == 0 else 0] = self.scale
        z = z.graph("Pad", self._over_height(z, 1), [0] * 7 + [kept * p - self.columns])
        z = z.reshape(0, 2 * self.channels, self.height, kept, p) * weights.reshape(kept, p)
        z = z.reshape(0, 2, self.channels, self.height, kept, p).transpose(0, 2, 3, 5, 1, 4)
        z = z.reshape(0, self.channels, self.height, p, 2 * kept) @ _from_right(_roots(kept, q, q, 1))
        re, im = _rotated(z.halves(4), _roots(p, q, self.width, 1))
        last = _roots(p, p, p, 1)
        x = np.concatenate([last.real, -last.imag], 1) @ z.graph.concat(re, im, axis=3)
        return x.reshape(0, self.channels, self.height, self.width)

    def _over_height(self, z: Tensor, sign: int) -> Tensor:
        p, q = _factors(self.height)
        parts = [part.reshape(0, self.channels, p, q * self.columns) for part in z.halves(1)]
        z = _from_left(_roots(p, p, p, sign)) @ z.graph.concat(*parts, axis=2)
        parts = [part.reshape(0, self.channels, p, q, self.columns) for part in z.halves(2)]
        z = z.graph.concat(*_rotated(parts, _roots(p, q, self.height, sign)[..., None]), axis=3)
        z = _from_left(_roots(q, q, q, sign)) @ z
        z = z.reshape(0, self.channels, p, 2, q, self.columns).transpose(0, 3, 1, 4, 2, 5)
        return z.reshape(0, 2 * self.channels, self.height, self.columns)


def _factors(size: int) -> tuple[int, int]:
    """The two factors of a size that are nearest to each other, the smaller one first."""
    small = max(n for n in range(1, math.isqrt(size) + 1) if size % n == 0)
    return small, size // small


def _roots(rows: int, columns: int, size: int, sign: int) -> np.ndarray:
    """The powers row * column of the root of unity exp(sign 2 pi i / size)."""
    return np.exp(sign * 2j * np.pi * (np.outer(np.arange(rows), np.arange(columns)) % size) / size)


def _rotated(z: tuple[Tensor, ...] | list[Tensor], by: np.ndarray) -> tuple[Tensor, Tensor]:
    """Multiplies real and imaginary parts by complex numbers."""
    re, im = z
    return re * by.real - im * by.imag, re * by.imag + im * by.real


def _from_left(matrix: np.ndarray) -> np.ndarray:
    """The real matrix that multiplies real parts above imaginary ones as the complex matrix does."""
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def _from_right(matrix: np.ndarray) -> np.ndarray:
    """The real matrix that multiplies real parts left of imaginary ones as the complex matrix does."""
    return np.block([[matrix.real, matrix.imag], [-matrix.imag, matrix.real]])


def starlet(images: Tensor, scales: int) -> Tensor:
    """Mirrors `ops.filters.starlet` for images (B, 2, H, W); the result has all scales of the first, then the other."""
    graph, details = images.graph, []
    for scale in range(scales):
        smooth = images
        for axis in (2, 3):
            smooth = _smooth(smooth, axis, 2**scale)
        details.append((images - smooth).halves(1))
        images = smooth
    return graph.concat(*(pair[0] for pair in details), *(pair[1] for pair in details), axis=1)


def _smooth(images: Tensor, axis: int, distance: int) -> Tensor:
    graph, size, reach = images.graph, images.size(axis), 2 * distance
    # Mirrored borders, which ONNX's Pad lacks in this form, repeat the border pixel: ... 1 0 0 1 ...
    index = graph.range(-reach, size + reach) % (size * 2)
    padded = graph("Gather", images, graph("Min", index, size * 2 - 1 - index), axis=axis)
    shape = (5, 1) if axis == 2 else (1, 5)
    taps = np.broadcast_to(np.reshape(SPLINE_TAPS, shape), (2, 1, *shape))
    return graph("Conv", padded, taps, group=2, kernel_shape=shape, dilations=[distance] * 2, pads=[0] * 4)


def exposed_sum(ir: Tensor, vis_y: Tensor) -> Tensor:
    """Mirrors `ops.tone.exposed_sum`."""
    graph = ir.graph
    ir_mean, vis_mean = _mean(ir), _mean(vis_y)
    # Centred first: some runtimes sum in an order for which E[x^2] - E[x]^2 loses digits.
    ir_centred, vis_centred = ir - ir_mean, vis_y - vis_mean
    ir_variance = _mean(ir_centred * ir_centred) + tone.VARIANCE_EPSILON
    vis_variance = _mean(vis_centred * vis_centred) + tone.VARIANCE_EPSILON
    brightness = ir_mean + vis_mean
    dark = _darkness(brightness, tone.SHARE_RANGE)
    share = dark * (tone.DARK_SHARE - tone.SHARE) + tone.SHARE

    power = (1.0 - dark) * (tone.EQUALITY / 2)
    ratio = graph("Pow", vis_variance / ir_variance, power).clip(1 / tone.MOST_UNEQUAL, tone.MOST_UNEQUAL)
    ir_weight, vis_weight = ratio * 2.0 / (ratio + 1.0), 2.0 / (ratio + 1.0)
    variance = ir_weight * ir_weight * ir_variance + vis_weight * vis_weight * vis_variance
    variance = variance + ir_weight * vis_weight * 2.0 * _mean(ir_centred * vis_centred)
    deviation = graph("Sqrt", graph("Max", variance, tone.VARIANCE_EPSILON))
    gain = (tone.CONTRAST / deviation).clip(tone.LEAST_GAIN, 1.0)
    gain = gain + (tone.DARK_GAIN - gain) * _darkness(brightness, tone.GAIN_RANGE)
    offset = graph("Max", gain * (ir_weight * ir_mean + vis_weight * vis_mean) - tone.LEVEL, 0.0)
    exposed = (gain * (ir_weight * ir + vis_weight * vis_y) - offset).clip(0.0, 1.0)
    return (1.0 - share) * exposed + share * graph("Max", ir, vis_y)


def _mean(image: Tensor) -> Tensor:
    # Rows first, as `ops.tone.measure_exposure` does.
    return image.mean(3).mean(2)


def _darkness(brightness: Tensor, ends: tuple[float, float]) -> Tensor:
    dark, bright = ends
    return ((bright - brightness) / (bright - dark)).clip(0.0, 1.0)


def logit(image: Tensor) -> Tensor:
    """Mirrors `ops.tone.logit`."""
    bounded = image.clip(tone.HALF_LEVEL, 1 - tone.HALF_LEVEL)
    return image.graph("Log", bounded) - image.graph("Log", 1.0 - bounded)


def planes(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the colours of a uint8 image, (B, H, W, 3), each (B, 1, H, W) in [0, 1]."""
    red, green, blue = image.graph.split(image.cast("float32").transpose(0, 3, 1, 2) / 255.0, 1, num_outputs=3)
    return red, green, blue


def luminance(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    """Mirrors `data.color.luminance`."""
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]


def restore_color(fused: Tensor, colors: tuple[Tensor, Tensor, Tensor], color_range: str) -> Tensor:
    """Mirrors `data.color.restore_color` and `to_uint8`; the result is a uint8 image, (B, H, W, 3)."""
    red, _, blue = colors
    y, (kr, kg, kb) = luminance(*colors), _LUMA
    if color_range == "full":
        red, blue = fused + (red - y), fused + (blue - y)
        rgb = [red, (fused - red * kr - blue * kb) / kg, blue]
    else:
        luma = (fused * 255.0 - 16.0) * 1.164
        cb, cr = ((color - y) * (255 / (2 * (1 - k))) - 0.5 for color, k in ((blue, kb), (red, kr)))
        rgb = [plane / 255.0 for plane in (luma + cr * 1.596, luma - cb * 0.392 - cr * 0.813, luma + cb * 2.017)]
    graph: Graph = fused.graph
    # ONNX's Round rounds half to even, too.
    return graph("Round", graph.concat(*rgb, axis=1).clip(0.0, 1.0) * 255.0).cast("uint8").transpose(0, 2, 3, 1)
