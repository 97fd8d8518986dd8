"""Visual information fidelity: how much of what an eye sees in a source it still sees in the fused image.

Sheikh and Bovik model a source block as a Gaussian with variance s², the fused block as g·source + v, and the
eye as an additive noise of variance sigma². The information that reaches the eye is log(1 + s²/sigma²) from
the source itself and log(1 + g²·s²/(sigma_v² + sigma²)) through the fused image. VIFp and VIFF differ in
sigma² and in how blocks, scales and sources are put together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8
from scipy.ndimage import correlate1d

from rpfnet_jax.metrics.inputs import Protocol, check_gray8, check_protocol
from rpfnet_jax.metrics.windows import Moments, blur, moments, total

# Window of each scale, finest first; sigma is a fifth of the size. Scales below the first are decimated by 2
# after a blur with their own window, and only windows inside the image count.
WINDOW_SIZES = (17, 9, 5, 3)

MIN_SIZE = 41
"""Smallest height and width, in pixels, for which the coarsest of the four scales still holds one window."""

VIFP_NOISE = 2.0

# Han et al. state sigma² as a fraction of the squared dynamic range of 8-bit images.
VIFF_NOISE = 0.005 * 255.0**2
VIFF_SCALE_WEIGHTS = np.array([1.0, 0.0, 0.15, 1.0]) / 2.15
# Added to every block (in log10 units), so that flat pairs count as kept instead of 0 / 0. It is not
# negligible in the `paper` protocol, where a block carries some 1e-5.
BLOCK_FLOOR = 1e-7

TINY = 1e-10


class _Channel(NamedTuple):
    """The Gaussian channel from source to fused image, one entry per block."""

    gain: np.ndarray  # g
    source: np.ndarray  # s²
    residual: np.ndarray  # sigma_v²

    def seen_in_source(self, noise: float) -> np.ndarray:
        return np.log10(1 + self.source / noise)

    def seen_in_fused(self, noise: float) -> np.ndarray:
        return np.log10(1 + self.gain**2 * self.source / (self.residual + noise))


def gaussian(size: int) -> np.ndarray:
    """Weights of the window along one axis."""
    offset = np.arange(size) - size // 2
    taps = np.exp(-(offset**2) / (2 * (size / 5) ** 2))
    return taps / taps.sum()


def _blur(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Blurs with a separable window and keeps the positions where the window lies inside the image."""
    margin = len(taps) // 2
    rows = correlate1d(image, taps, axis=0)[margin:-margin]
    return correlate1d(rows, taps, axis=1)[:, margin:-margin]


def _scales(*images: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """Yields the window and the images of each scale."""
    for scale, size in enumerate(WINDOW_SIZES):
        taps = gaussian(size)
        if scale > 0:
            images = tuple(_blur(image, taps)[::2, ::2] for image in images)
        yield taps, images


def _channel(source: np.ndarray, fused: np.ndarray, taps: np.ndarray, *, saturate: bool = False) -> _Channel:
    """Fits the channel in every window; with `saturate` products stop at 255 as in 8-bit arithmetic."""

    def local_covariance(a: np.ndarray, b: np.ndarray, mean_a: np.ndarray, mean_b: np.ndarray) -> np.ndarray:
        product = np.minimum(a * b, 255.0) if saturate else a * b
        return _blur(product, taps) - mean_a * mean_b

    mean_s, mean_f = _blur(source, taps), _blur(fused, taps)
    # Cancellation (or saturation) can leave a negative variance.
    variance_s = np.maximum(local_covariance(source, source, mean_s, mean_s), 0.0)
    variance_f = np.maximum(local_covariance(fused, fused, mean_f, mean_f), 0.0)
    covariance = local_covariance(source, fused, mean_s, mean_f)

    gain = covariance / (variance_s + TINY)
    residual = variance_f - gain * covariance
    # A flat block carries nothing; a negative gain is a reversed contrast, which no eye takes for the
    # original. In both cases all the variance of the fused block is noise.
    flat_s, flat_f = variance_s < TINY, variance_f < TINY
    unrelated = flat_s | flat_f | (gain < 0)
    gain = np.where(unrelated, 0.0, gain)
    residual = np.maximum(np.where(unrelated, variance_f, residual), TINY)
    return _Channel(gain, np.where(flat_s, 0.0, variance_s), residual)


def vifp(
    source: UInt8[np.ndarray, "h w"],
    fused: UInt8[np.ndarray, "h w"],
    *,
    protocol: Protocol = "standard",
) -> float:
    """Visual information fidelity of the fused image with respect to one source, in the pixel domain (VIFp).

    Sheikh and Bovik 2006, IEEE Trans. Image Process. 15(2): four scales, sigma² = 2, grey levels 0-255.
    Windows that cross the border do not count (evaluators that pad with zeros differ by 3-10 %). `paper` is
    what MATLAB computes from uint8 images: products of two pixels saturate at 255 in the finest scale.

    Args:
        source: uint8 (h, w), at least 41 x 41: the reference.
        fused: uint8 (h, w): the image that is judged. Exchanging the two changes the value.
        protocol: "standard" or "paper".

    Returns:
        A ratio ≥ 0; 1 for a copy (up to rounding), above 1 for a copy with more contrast. If the source is
        constant there is nothing to lose, and the result is 1.0.

    Raises:
        ValueError: not uint8 grey images of one size of at least 41 x 41 pixels, or an unknown protocol.
    """
    check_gray8(source, fused, min_size=MIN_SIZE)
    check_protocol(protocol)
    seen = available = 0.0
    for scale, (taps, (reference, judged)) in enumerate(_scales(source.astype(np.float64), fused.astype(np.float64))):
        # Only the finest scale works on the uint8 arrays; decimated images are floating point in MATLAB too.
        channel = _channel(reference, judged, taps, saturate=protocol == "paper" and scale == 0)
        seen += np.sum(channel.seen_in_fused(VIFP_NOISE))
        available += np.sum(channel.seen_in_source(VIFP_NOISE))
    return float(seen / available) if available > 0 else 1.0


def vifp_sum(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
    *,
    protocol: Protocol = "standard",
) -> float:
    """VIFp(IR → F) + VIFp(VIS → F), see `vifp`; often printed under the names VIF or VIFF.

    Args:
        fused: uint8 (h, w), at least 41 x 41.
        ir: uint8 (h, w).
        vis: uint8 (h, w).
        protocol: "standard" or "paper".

    Returns:
        A number ≥ 0, rarely above 2.

    Raises:
        ValueError: not uint8 grey images of one size of at least 41 x 41 pixels, or an unknown protocol.
    """
    check_gray8(fused, ir, vis, min_size=MIN_SIZE)
    return vifp(ir, fused, protocol=protocol) + vifp(vis, fused, protocol=protocol)


def viff(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
    *,
    protocol: Protocol = "standard",
) -> float:
    """Visual information fidelity for fusion (VIFF).

    Han, Cai, Cao and Xu 2013, Information Fusion 14(2), with sigma² = 0.005·255² and scale weights 1, 0,
    0.15, 1 (over 2.15), finest first. In every block one source is taken as the reference, the one with the
    smaller gain; ties go to VIS. `paper` scales the images to [0, 1] but leaves sigma² as it is: the best fit
    to values in the literature, not a proven one.

    Args:
        fused: uint8 (h, w), at least 41 x 41.
        ir: uint8 (h, w).
        vis: uint8 (h, w).
        protocol: "standard" or "paper".

    Returns:
        A ratio ≥ 0; 1 if the fused image equals both sources, above 1 if it has more contrast. 1.0 if all
        three images are constant.

    Raises:
        ValueError: not uint8 grey images of one size of at least 41 x 41 pixels, or an unknown protocol.
    """
    check_gray8(fused, ir, vis, min_size=MIN_SIZE)
    check_protocol(protocol)
    unit = 255.0 if protocol == "paper" else 1.0
    pyramid = _scales(fused / unit, ir / unit, vis / unit)
    total = 0.0
    for weight, (taps, (f, i, v)) in zip(VIFF_SCALE_WEIGHTS, pyramid, strict=True):
        if weight == 0:
            continue
        from_ir, from_vis = _channel(i, f, taps), _channel(v, f, taps)
        take_ir = from_ir.gain < from_vis.gain
        seen = np.where(take_ir, from_ir.seen_in_fused(VIFF_NOISE), from_vis.seen_in_fused(VIFF_NOISE))
        available = np.where(take_ir, from_ir.seen_in_source(VIFF_NOISE), from_vis.seen_in_source(VIFF_NOISE))
        total += weight * np.sum(seen + BLOCK_FLOOR) / np.sum(available + BLOCK_FLOOR)
    return float(total)


_PAIRS = (("i", "i"), ("v", "v"), ("f", "f"), ("i", "f"), ("v", "f"))


class _JaxChannel(NamedTuple):
    """See `rpfnet_jax.metrics.fidelity`."""

    gain: Array
    source: Array
    residual: Array

    def seen_in_source(self, noise: float) -> Array:
        return jnp.log1p(self.source / noise)

    def seen_in_fused(self, noise: float) -> Array:
        return jnp.log1p(self.gain**2 * self.source / (self.residual + noise))


def fidelity(
    fused: UInt8[Array, "b h w"], ir: UInt8[Array, "b h w"], vis: UInt8[Array, "b h w"]
) -> dict[str, Float32[Array, " b"]]:
    """`viff` and `vifp_sum` of each image under both protocols, which share their windows.

    Returns:
        The columns `viff_standard`, `viff_paper`, `vifp_standard` and `vifp_paper` of `measure`.
    """
    protocols, nothing = ("standard", "paper"), jnp.zeros(len(fused))
    seen = {(side, protocol): nothing for side in "iv" for protocol in protocols}
    available = dict(seen)
    viff = dict.fromkeys(protocols, nothing)
    for scale, (images, taps) in enumerate(_jax_scales({"f": fused, "i": ir, "v": vis})):
        found = moments(images, _PAIRS, taps)
        # Of the `paper` protocol only the finest scale differs.
        saturated = _saturated(images, found, taps) if scale == 0 else found
        for protocol, used in (("standard", found), ("paper", saturated)):
            for side in "iv":
                channel = _jax_channel(used, side, TINY)
                seen[side, protocol] += total(channel.seen_in_fused(VIFP_NOISE))
                available[side, protocol] += total(channel.seen_in_source(VIFP_NOISE))
        for protocol, unit in (("standard", 1.0), ("paper", 255.0**2)):
            if VIFF_SCALE_WEIGHTS[scale]:
                viff[protocol] += float(VIFF_SCALE_WEIGHTS[scale]) * _viff_ratio(found, unit)
    columns = {f"viff_{protocol}": value for protocol, value in viff.items()}
    for protocol in protocols:
        from_ir, from_vis = (_ratio(seen[side, protocol], available[side, protocol]) for side in "iv")
        columns[f"vifp_{protocol}"] = from_ir + from_vis
    return columns


def _jax_scales(images: dict[str, Array]) -> Iterator[tuple[dict[str, Array], list[float]]]:
    images = {name: image.astype(jnp.float32) for name, image in images.items()}
    for scale, size in enumerate(WINDOW_SIZES):
        taps = gaussian(size).tolist()
        if scale > 0:
            images = {name: blur(image, taps)[:, ::2, ::2] for name, image in images.items()}
        yield images, taps


def _saturated(images: dict[str, Array], found: Moments, taps: list[float]) -> Moments:
    """min(x·y, 255) = x·y - max(x·y - 255, 0): what saturation takes away is subtracted from the covariance."""
    excess = {(a, b): blur(jnp.maximum(images[a] * images[b] - 255.0, 0.0), taps) for a, b in _PAIRS}
    return Moments(found.mean, {pair: found.covariance[pair] - excess[pair] for pair in _PAIRS})


def _jax_channel(found: Moments, side: str, tiny: float) -> _JaxChannel:
    variance_s = jnp.maximum(found.covariance[side, side], 0.0)
    variance_f = jnp.maximum(found.covariance["f", "f"], 0.0)
    covariance = found.covariance[side, "f"]
    gain = covariance / (variance_s + tiny)
    residual = variance_f - gain * covariance
    flat_s, flat_f = variance_s < tiny, variance_f < tiny
    unrelated = flat_s | flat_f | (gain < 0)
    gain = jnp.where(unrelated, 0.0, gain)
    residual = jnp.maximum(jnp.where(unrelated, variance_f, residual), tiny)
    return _JaxChannel(gain, jnp.where(flat_s, 0.0, variance_s), residual)


def _viff_ratio(found: Moments, unit: float) -> Array:
    """Of one scale; dividing the images by a unit multiplies the constants by its square."""
    from_ir, from_vis = (_jax_channel(found, side, TINY * unit) for side in "iv")
    noise = VIFF_NOISE * unit
    take_ir = from_ir.gain < from_vis.gain
    seen = jnp.where(take_ir, from_ir.seen_in_fused(noise), from_vis.seen_in_fused(noise))
    available = jnp.where(take_ir, from_ir.seen_in_source(noise), from_vis.seen_in_source(noise))
    # Natural logarithms here, decimal ones there.
    floor = BLOCK_FLOOR * math.log(10)
    return total(seen + floor) / total(available + floor)


def _ratio(seen: Array, available: Array) -> Array:
    return jnp.where(available > 0, seen / jnp.where(available > 0, available, 1.0), 1.0)
