"""Visual information fidelity: how much of the visible information in a source is still visible in the fused image.

Sheikh and Bovik model a source block as a Gaussian with variance s², the fused block as g·source + v, and the eye as an
additive noise of variance sigma². The information that reaches the eye is log(1 + s²/sigma²) from the source itself and
log(1 + g²·s²/(sigma_v² + sigma²)) through the fused image. VIFp and VIFF differ in sigma² and in how blocks, scales and
sources are combined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.ndimage import correlate1d

from rpfnet_jax.metrics.inputs import Columns, Gray, GrayBatch, Protocol, check_batch, check_gray8, check_protocol
from rpfnet_jax.metrics.windows import PAIRS, Moments, blur, moments, named, ratio, total

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


def vifp(source: Gray, fused: Gray, *, protocol: Protocol = "standard") -> float:
    """Computes the visual information fidelity of the fused image to one source, in the pixel domain (VIFp).

    Sheikh and Bovik 2006, IEEE Trans. Image Process. 15(2): four scales, sigma² = 2, at least 41 x 41 pixels. Windows
    that cross the border do not count (evaluators that pad with zeros differ by 3-10 %). `paper` is what MATLAB
    computes from uint8 images: products of two pixels saturate at 255 in the finest scale.

    Args:
        source: the reference.
        fused: the image that is judged. Exchanging the two changes the value.
        protocol: "standard" or "paper".

    Returns:
        A ratio ≥ 0; 1 for a copy (up to rounding), above 1 for a copy with more contrast. A constant source has nothing
        to lose: 1.
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


def vifp_sum(fused: Gray, ir: Gray, vis: Gray, *, protocol: Protocol = "standard") -> float:
    """Computes VIFp(IR → F) + VIFp(VIS → F), rarely above 2; often printed under the names VIF or VIFF; see `vifp`."""
    return vifp(ir, fused, protocol=protocol) + vifp(vis, fused, protocol=protocol)


def viff(fused: Gray, ir: Gray, vis: Gray, *, protocol: Protocol = "standard") -> float:
    """Computes the visual information fidelity for fusion (VIFF).

    Han, Cai, Cao and Xu 2013, Information Fusion 14(2), with sigma² = 0.005·255² and scale weights 1, 0, 0.15, 1 (over
    2.15), finest first, for at least 41 x 41 pixels. In every block the source with the smaller gain is the reference;
    ties go to VIS. `paper` scales the images to [0, 1] but leaves sigma² as it is: the best fit to values in the
    literature, not a proven one.

    Returns:
        A ratio ≥ 0; 1 if the fused image equals both sources, above 1 if it has more contrast. 1 if all three images
        are constant.
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


def _gaussian(size: int) -> np.ndarray:
    """Returns the weights of a window along one axis."""
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
        taps = _gaussian(size)
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

    return _Channel(*_fit(np, variance_s, variance_f, covariance, TINY))


def _fit(xp: ModuleType, variance_s: Any, variance_f: Any, covariance: Any, tiny: float) -> tuple[Any, Any, Any]:
    """Returns gain, s² and sigma_v² of the channel; `xp` is NumPy or jax.numpy."""
    gain = covariance / (variance_s + tiny)
    residual = variance_f - gain * covariance
    # A flat block carries nothing; a negative gain is a reversed contrast, which no eye takes for the
    # original. In both cases all the variance of the fused block is noise.
    flat_s, flat_f = variance_s < tiny, variance_f < tiny
    unrelated = flat_s | flat_f | (gain < 0)
    gain = xp.where(unrelated, 0.0, gain)
    residual = xp.maximum(xp.where(unrelated, variance_f, residual), tiny)
    return gain, xp.where(flat_s, 0.0, variance_s), residual


class _BatchChannel(NamedTuple):
    """`_Channel` of a batch, with natural logarithms."""

    gain: Array
    source: Array
    residual: Array

    def seen_in_source(self, noise: float) -> Array:
        return jnp.log1p(self.source / noise)

    def seen_in_fused(self, noise: float) -> Array:
        return jnp.log1p(self.gain**2 * self.source / (self.residual + noise))


def fidelity(fused: GrayBatch, ir: GrayBatch, vis: GrayBatch) -> Columns:
    """Twin of the columns `viff_*` and `vifp_*`: both protocols share their windows."""
    check_batch(fused, ir, vis)
    protocols, zero = ("standard", "paper"), jnp.zeros(len(fused))
    seen = {(side, protocol): zero for side in ("ir", "vis") for protocol in protocols}
    available = dict(seen)
    viff = dict.fromkeys(protocols, zero)
    for scale, (images, taps) in enumerate(_batch_scales(named(fused, ir, vis))):
        found = moments(images, taps)
        # The protocols of VIFp differ in the finest scale only.
        saturated = _saturated(images, found, taps) if scale == 0 else found
        for protocol, used in (("standard", found), ("paper", saturated)):
            for side in ("ir", "vis"):
                channel = _batch_channel(used, side, TINY)
                seen[side, protocol] += total(channel.seen_in_fused(VIFP_NOISE))
                available[side, protocol] += total(channel.seen_in_source(VIFP_NOISE))
        for protocol, unit in (("standard", 1.0), ("paper", 255.0**2)):
            if VIFF_SCALE_WEIGHTS[scale]:
                viff[protocol] += float(VIFF_SCALE_WEIGHTS[scale]) * _viff_ratio(found, unit)
    columns = {f"viff_{protocol}": value for protocol, value in viff.items()}
    for protocol in protocols:
        kept = [ratio(seen[side, protocol], available[side, protocol], otherwise=1.0) for side in ("ir", "vis")]
        columns[f"vifp_{protocol}"] = kept[0] + kept[1]
    return columns


def _batch_scales(images: dict[str, Array]) -> Iterator[tuple[dict[str, Array], list[float]]]:
    for scale, size in enumerate(WINDOW_SIZES):
        taps = _gaussian(size).tolist()
        if scale > 0:
            images = {name: blur(image, taps)[:, ::2, ::2] for name, image in images.items()}
        yield images, taps


def _saturated(images: dict[str, Array], found: Moments, taps: list[float]) -> Moments:
    """Subtracts from the covariances what saturation removes: min(x·y, 255) = x·y - max(x·y - 255, 0)."""
    excess = {(a, b): blur(jnp.maximum(images[a] * images[b] - 255.0, 0.0), taps) for a, b in PAIRS}
    return Moments(found.mean, {pair: found.covariance[pair] - excess[pair] for pair in PAIRS})


def _batch_channel(found: Moments, side: str, tiny: float) -> _BatchChannel:
    variance_s = jnp.maximum(found.covariance[side, side], 0.0)
    variance_f = jnp.maximum(found.covariance["fused", "fused"], 0.0)
    return _BatchChannel(*_fit(jnp, variance_s, variance_f, found.covariance[side, "fused"], tiny))


def _viff_ratio(found: Moments, unit: float) -> Array:
    """Computes the term of one scale; dividing the images by a unit multiplies the constants by its square."""
    from_ir, from_vis = (_batch_channel(found, side, TINY * unit) for side in ("ir", "vis"))
    noise = VIFF_NOISE * unit
    take_ir = from_ir.gain < from_vis.gain
    seen = jnp.where(take_ir, from_ir.seen_in_fused(noise), from_vis.seen_in_fused(noise))
    available = jnp.where(take_ir, from_ir.seen_in_source(noise), from_vis.seen_in_source(noise))
    # The floor is stated in decimal logarithms.
    floor = BLOCK_FLOOR * math.log(10)
    return total(seen + floor) / total(available + floor)
