"""Statistics of grey levels: spread, correlation, differences, histograms, and brightness at night.

The float64 references come first, their float32 twins (`statistics` and `histograms`) below them.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rpfnet_jax.metrics.inputs import Columns, Gray, GrayBatch, Protocol, check_batch, check_gray8, check_protocol
from rpfnet_jax.metrics.windows import average, named, ratio, total

_LEVELS = 256

DARK_IR = 0.1
DARK_VIS = 0.05
HOT_QUANTILE = 0.99


def standard_deviation(image: Gray, *, protocol: Protocol = "standard") -> float:
    """Computes the standard deviation of the grey levels (SD).

    `standard` is the population standard deviation, in [0, 127.5]. `paper` is what MATLAB computes if the image stays
    in uint8: differences from the mean are rounded, negative ones saturate to 0, and squares saturate to 255. It lies
    in [0, 15.97] and is the "SD" of about 10 that the fusion literature prints.

    Returns:
        Grey levels; 0 for a constant image.
    """
    check_gray8(image)
    check_protocol(protocol)
    levels = image.astype(np.float64)
    if protocol == "standard":
        return float(levels.std())
    # MATLAB's conversion to uint8 rounds halves up, unlike np.rint.
    above = np.clip(np.floor(levels - levels.mean() + 0.5), 0, 255)
    return float(np.sqrt(np.mean(np.minimum(above**2, 255.0))))


def spatial_frequency(image: Gray, *, protocol: Protocol = "standard") -> float:
    """Computes the spatial frequency sqrt(RF² + CF²): the root mean square of first differences along both axes (SF).

    Eskicioglu and Fisher 1995, IEEE Trans. Commun. 43(12). Each mean is over the differences that exist: (h - 1)·w and
    h·(w - 1), for at least 2 x 2 pixels. `paper` is the uint8 arithmetic of MATLAB: negative differences saturate to 0,
    squares to 255; it depends on the direction of reading, so mirroring the image changes it.

    Returns:
        Grey levels (toolboxes that work in [0, 1] print SF / 255); 0 for a constant image.
    """
    check_gray8(image, min_size=2)
    check_protocol(protocol)
    power = 0.0
    for axis in (0, 1):
        difference = np.diff(image.astype(np.float64), axis=axis)
        if protocol == "paper":
            power += float(np.mean(np.minimum(np.maximum(difference, 0.0) ** 2, 255.0)))
        else:
            power += float(np.mean(difference**2))
    return float(np.sqrt(power))


def average_gradient(image: Gray) -> float:
    """Computes the average gradient: the sum of sqrt((dx² + dy²) / 2) over (h - 1)·(w - 1) (AG).

    Cui, Feng, Xu, Li and Chen 2015, Optics Communications 341, for at least 2 x 2 pixels. The derivatives are central
    differences, one-sided at the border, at all h·w pixels (MATLAB's and NumPy's `gradient`); the divisor
    (h - 1)·(w - 1) is nevertheless the convention of the toolboxes, kept to be comparable. Evaluators that take
    one-sided differences everywhere print values about 30 % higher.

    Returns:
        Grey levels per pixel; 0 for a constant image.
    """
    check_gray8(image, min_size=2)
    dy, dx = np.gradient(image.astype(np.float64))
    height, width = image.shape
    return float(np.sum(np.sqrt((dx**2 + dy**2) / 2)) / ((height - 1) * (width - 1)))


def correlation_coefficient(fused: Gray, ir: Gray, vis: Gray) -> float:
    """Computes the mean correlation with the two sources: (r(IR, F) + r(VIS, F)) / 2, r being Pearson's (CC).

    Ma, Ma and Li 2019, Information Fusion 45.

    Returns:
        A number in [-1, 1]. The correlation with a constant image is not defined; it counts as 0.
    """
    check_gray8(fused, ir, vis)
    f, i, v = (image.astype(np.float64) for image in (fused, ir, vis))
    return (_pearson(i, f) + _pearson(v, f)) / 2


def scd(fused: Gray, ir: Gray, vis: Gray) -> float:
    """Computes the sum of the correlations of differences: r(F - VIS, IR) + r(F - IR, VIS) (SCD).

    Aslantas and Bendes 2015, AEÜ 69(12). Differences are signed.

    Returns:
        A number in [-2, 2]. The correlation with a constant image or difference is not defined; it counts as 0.
    """
    check_gray8(fused, ir, vis)
    f, i, v = (image.astype(np.float64) for image in (fused, ir, vis))
    return _pearson(f - v, i) + _pearson(f - i, v)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a = a - a.mean()
    b = b - b.mean()
    norm = np.sqrt(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b) / norm) if norm > 0 else 0.0


def entropy(image: Gray) -> float:
    """Computes the Shannon entropy of the 256-bin histogram of grey levels (EN).

    Roberts, van Aardt and Ahmed 2008, J. Appl. Remote Sens. 2, 023522.

    Returns:
        Bits, in [0, 8]; 0 for a constant image.
    """
    check_gray8(image)
    return _entropy_of_counts(np.bincount(image.ravel(), minlength=_LEVELS))


def mutual_information(fused: Gray, ir: Gray, vis: Gray, *, protocol: Protocol = "standard") -> float:
    """Computes the mutual information with the sources, summed: I(F; IR) + I(F; VIS) (MI).

    Qu, Zhang and Yan 2002, Electronics Letters 38(7), with 256 x 256 bins. `paper` reproduces a common toolbox, which
    indexes the joint histogram with `level + 1` in 8-bit arithmetic: levels 254 and 255 fall together there, but not in
    the marginal entropies, so images with white areas score a little higher.

    Returns:
        Bits (not nats), in [0, 16] for `standard`; 0 if the fused image is constant.
    """
    check_gray8(fused, ir, vis)
    check_protocol(protocol)
    top = _LEVELS - 1 if protocol == "standard" else _LEVELS - 2
    row = _LEVELS * np.minimum(fused, top).ravel().astype(np.intp)
    entropy_fused = entropy(fused)
    total = 0.0
    for source in (ir, vis):
        joint = _entropy_of_counts(np.bincount(row + np.minimum(source, top).ravel()))
        # Rounding leaves a -1e-15 or so where the images are independent.
        total += max(0.0, entropy_fused + entropy(source) - joint)
    return total


def _entropy_of_counts(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    # 0.0 - ...: a constant image has entropy 0, not -0.
    return float(0.0 - np.sum(p * np.log2(p)))


def dark_lift(fused: Gray, ir: Gray, vis: Gray) -> float:
    """Computes the mean fused brightness where both sources are dark: IR < 0.1 and VIS < 0.05. Lower is better.

    Returns:
        Brightness in [0, 1]; NaN if no pixel is dark in both sources.
    """
    check_gray8(fused, ir, vis)
    dark = (ir / 255.0 < DARK_IR) & (vis / 255.0 < DARK_VIS)
    return float(fused[dark].mean() / 255.0) if dark.any() else float("nan")


def target_keep(fused: Gray, ir: Gray, vis: Gray) -> float:
    """Computes the fused brightness at the hottest 1 % of the infrared image, relative to max(IR, VIS) there.

    The hottest pixels are those at or above the 99 % quantile of IR; where many pixels share that level (saturated
    targets) all of them count.

    Returns:
        A ratio ≥ 0; 1 means as bright as the brighter source. NaN if both sources are black there.
    """
    check_gray8(fused, ir, vis)
    hot = ir >= np.quantile(ir, HOT_QUANTILE)
    brightest = np.maximum(ir, vis)[hot].mean()
    return float(fused[hot].mean() / brightest) if brightest > 0 else float("nan")


def statistics(fused: GrayBatch, ir: GrayBatch, vis: GrayBatch) -> Columns:
    """Twin of the columns `sf_*`, `sd_*`, `cc`, `scd` and `ag`."""
    check_batch(fused, ir, vis)
    f, i, v = named(fused, ir, vis).values()
    return {
        "sf_standard": _batch_spatial_frequency(f, saturate=False),
        "sf_paper": _batch_spatial_frequency(f, saturate=True),
        "sd_standard": jnp.sqrt(average(_centred(f) ** 2)),
        "sd_paper": _saturated_deviation(fused),
        "cc": (_batch_pearson(i, f) + _batch_pearson(v, f)) / 2,
        "scd": _batch_pearson(f - v, i) + _batch_pearson(f - i, v),
        "ag": _batch_average_gradient(f),
    }


def _batch_spatial_frequency(image: Array, saturate: bool) -> Array:
    power = jnp.zeros(len(image))
    for axis in (1, 2):
        difference = jnp.diff(image, axis=axis)
        square = jnp.minimum(jnp.maximum(difference, 0.0) ** 2, 255.0) if saturate else difference**2
        power += average(square)
    return jnp.sqrt(power)


def _centred(image: Array) -> Array:
    # Twice, because the first mean is rounded; the second one is small and therefore precise.
    image = image - average(image)[:, None, None]
    return image - average(image)[:, None, None]


def _saturated_deviation(image: Array) -> Array:
    levels = image.astype(jnp.int32)
    # level - mean, halves rounded up, in whole numbers: a rounded mean could move a whole grey level to the next. In
    # two steps, since the sum of a large image's levels exceeds int32: sum = width * rows + rest.
    height, width = image.shape[1:]
    pixels = height * width
    rows, rest = (x.sum(axis=1, keepdims=True) for x in jnp.divmod(levels.sum(axis=2, keepdims=True), width))
    quotient, rows = jnp.divmod(rows, height)
    more, remainder = jnp.divmod(width * rows + rest, pixels)
    quotient += more
    above = jnp.clip(levels - quotient - (2 * remainder > pixels), 0, 255)
    return jnp.sqrt(average(jnp.minimum(above**2, 255).astype(jnp.float32)))


def _batch_pearson(a: Array, b: Array) -> Array:
    a, b = _centred(a), _centred(b)
    return ratio(total(a * b), jnp.sqrt(total(a * a)) * jnp.sqrt(total(b * b)), otherwise=0.0)


def _batch_average_gradient(image: Array) -> Array:
    dy, dx = jnp.gradient(image, axis=(1, 2))
    height, width = image.shape[1:]
    return total(jnp.sqrt((dx**2 + dy**2) / 2)) / ((height - 1) * (width - 1))


def histograms(fused: GrayBatch, ir: GrayBatch, vis: GrayBatch) -> Columns:
    """Twin of the columns `en`, `mi`, `dark_lift` and `target_keep`."""
    check_batch(fused, ir, vis)
    with_ir, with_vis = _joint_counts(fused, ir), _joint_counts(fused, vis)
    of_fused, of_ir, of_vis = with_ir.sum(axis=2), with_ir.sum(axis=1), with_vis.sum(axis=1)
    pixels = fused.shape[1] * fused.shape[2]
    entropy = _batch_entropy(of_fused, pixels)
    mutual = [
        jnp.maximum(
            entropy + _batch_entropy(source, pixels) - _batch_entropy(joint.reshape(len(joint), -1), pixels), 0.0
        )
        for joint, source in ((with_ir, of_ir), (with_vis, of_vis))
    ]
    return {
        "en": entropy,
        "mi": mutual[0] + mutual[1],
        "dark_lift": _batch_dark_lift(fused, ir, vis),
        "target_keep": _batch_target_keep(fused, ir, vis, of_ir),
    }


def _joint_counts(a: Array, b: Array) -> Array:
    """Counts the pixels with each pair of levels: int32 (batch, 256, 256)."""
    cell = a.astype(jnp.int32) * _LEVELS + b
    counts = jax.vmap(lambda cells: jnp.zeros(_LEVELS**2, jnp.int32).at[cells].add(1))(cell.reshape(len(a), -1))
    return counts.reshape(-1, _LEVELS, _LEVELS)


def _batch_entropy(counts: Array, pixels: int) -> Array:
    """Computes the entropy over the last axis, in bits."""
    share = counts / pixels
    return jnp.maximum(-jnp.sum(jax.scipy.special.xlogy(share, share), axis=-1) / math.log(2), 0.0)


def _masked_mean(image: Array, mask: Array) -> Array:
    """Averages the pixels in the mask; NaN where it is empty."""
    # The sums are whole numbers and exact, in two halves that fit into int32.
    rows = jnp.where(mask, image.astype(jnp.int32), 0).sum(axis=2)
    high, low = (half.sum(axis=1) for half in jnp.divmod(rows, _LEVELS))
    return (_LEVELS * high.astype(jnp.float32) + low) / mask.sum(axis=(1, 2))


def _batch_dark_lift(fused: Array, ir: Array, vis: Array) -> Array:
    dark = (ir < math.ceil(255 * DARK_IR)) & (vis < math.ceil(255 * DARK_VIS))
    return _masked_mean(fused, dark) / 255


def _batch_target_keep(fused: Array, ir: Array, vis: Array, of_ir: Array) -> Array:
    # Levels between the two neighbours of the quantile don't occur, so the upper one decides.
    rank = math.ceil(HOT_QUANTILE * (fused.shape[1] * fused.shape[2] - 1))
    hottest = (jnp.cumsum(of_ir, axis=1) <= rank).sum(axis=1)
    hot = ir >= hottest[:, None, None]
    return ratio(_masked_mean(fused, hot), _masked_mean(jnp.maximum(ir, vis), hot), otherwise=math.nan)
