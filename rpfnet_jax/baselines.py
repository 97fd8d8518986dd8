"""What every baseline verifies before it computes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import convolve1d, gaussian_filter, laplace, uniform_filter

MIN_SIZE = 16
"""The smallest height and width, in pixels: one step of the pyramid on top of a base 8 pixels high or wide."""


def check_sources(ir: Float32[np.ndarray, "..."], vis_y: Float32[np.ndarray, "..."]) -> None:
    """Refuses anything but two grey float pictures of one size in [0, 1].

    NumPy would broadcast some mismatched shapes without a word, and on a 0-255 scale the constants of the
    guided filter mean something else.

    Args:
        ir: what should be float32 (h, w) in [0, 1].
        vis_y: the same.

    Raises:
        ValueError: not 2-D, shapes differ, a side shorter than `MIN_SIZE`, or a value outside [0, 1] or NaN.
    """
    if ir.shape != vis_y.shape or ir.ndim != 2:
        raise ValueError(f"need two pictures of one shape (h, w), got ir {ir.shape} and vis_y {vis_y.shape}")
    if min(ir.shape) < MIN_SIZE:
        raise ValueError(f"pictures must be at least {MIN_SIZE} pixels high and wide, got {ir.shape}")
    for name, picture in (("ir", ir), ("vis_y", vis_y)):
        low, high = picture.min(), picture.max()
        # Written so that NaN, which compares as false, is refused too.
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name} must lie in [0, 1], got {low:g} to {high:g}")


def average(ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The mean of both sources: no artefacts, half the contrast.

    Args:
        ir: infrared picture, float32 (h, w) in [0, 1].
        vis_y: luminance of the visible picture, likewise.

    Returns:
        float32 (h, w) in [0, 1]; two equal sources come back exactly.

    Raises:
        ValueError: see `check_sources`.
    """
    check_sources(ir, vis_y)
    return (ir + vis_y) / np.float32(2)


def maximum(ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The brighter of both sources at each pixel: hot targets stay, dark texture goes.

    Args:
        ir: infrared picture, float32 (h, w) in [0, 1].
        vis_y: luminance of the visible picture, likewise.

    Returns:
        float32 (h, w) in [0, 1]; two equal sources come back exactly.

    Raises:
        ValueError: see `check_sources`.
    """
    check_sources(ir, vis_y)
    return np.maximum(ir, vis_y)


# The generating kernel of Burt and Adelson with a = 0.4, the one closest to a Gaussian.
_KERNEL = np.array([0.05, 0.25, 0.4, 0.25, 0.05])


def laplacian(ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Laplacian-pyramid fusion: at each scale the stronger detail, at the coarsest the mean.

    Pyramid: Burt and Adelson 1983, IEEE Trans. Commun. 31(4), a = 0.4, mirrored at the border; a level has
    half the size of the one below, rounded up. Rule: of two details the one of larger absolute value (the
    infrared one where they are equal), of the coarsest level the average. The number of levels is :func:`depth`.

    Args:
        ir: infrared picture, float32 (h, w) in [0, 1].
        vis_y: luminance of the visible picture, likewise.

    Returns:
        float32 (h, w), clipped to [0, 1]; two equal sources come back up to rounding.

    Raises:
        ValueError: see `check_sources`.
    """
    check_sources(ir, vis_y)
    levels = depth(*ir.shape)
    *ir_details, ir_base = decompose(ir, levels)
    *vis_details, vis_base = decompose(vis_y, levels)
    details = [np.where(np.abs(a) >= np.abs(b), a, b) for a, b in zip(ir_details, vis_details, strict=True)]
    return np.clip(reconstruct([*details, (ir_base + vis_base) / 2]), 0, 1).astype(np.float32)


def depth(height: int, width: int) -> int:
    """Number of detail levels for a picture of this size.

    Args:
        height: rows, at least 1.
        width: columns, at least 1.

    Returns:
        The largest d for which the shorter side is at least 8·2^d pixels; 0 below 16.
    """
    return max(0, (min(height, width) // (MIN_SIZE // 2)).bit_length() - 1)


def decompose(picture: Float32[np.ndarray, "h w"], levels: int) -> list[np.ndarray]:
    """Laplacian pyramid of a picture (Burt and Adelson 1983, Eq. 1-3).

    Args:
        picture: float32 (h, w).
        levels: number of detail levels, at least 0.

    Returns:
        float64 arrays: the details from fine to coarse, then the base.
    """
    pyramid = []
    level = picture.astype(np.float64)
    for _ in range(levels):
        coarse = _reduce(level)
        pyramid.append(level - _expand(coarse, level.shape))
        level = coarse
    return [*pyramid, level]


def reconstruct(pyramid: list[np.ndarray]) -> np.ndarray:
    """Inverse of :func:`decompose` (Burt and Adelson 1983, Eq. 4).

    Args:
        pyramid: what `decompose` returned, or coefficients of the same shapes.

    Returns:
        float64 (h, w).
    """
    *details, picture = pyramid
    for detail in reversed(details):
        picture = _expand(picture, detail.shape) + detail
    return picture


def _reduce(level: np.ndarray) -> np.ndarray:
    return _filter(level, _KERNEL)[::2, ::2]


def _expand(coarse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    spread = np.zeros(shape)
    spread[::2, ::2] = coarse
    # Half of the samples are zeros along each axis, hence twice the kernel.
    return _filter(spread, 2 * _KERNEL)


def _filter(level: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    # "mirror" keeps even samples on even places beyond the border; "reflect" would mix them with the zeros.
    for axis in (0, 1):
        level = convolve1d(level, kernel, axis=axis, mode="mirror")
    return level


# The parameters of the paper: box of the two-scale decomposition, Gaussian of the saliency (radius and sigma),
# radius and regularisation of the guided filter for base and detail.
_BOX = 31
_SALIENCY_RADIUS, _SALIENCY_SIGMA = 5, 5.0
_BASE = (45, 0.3)
_DETAIL = (7, 1e-6)


def guided(ir: Float32[np.ndarray, "h w"], vis_y: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Guided-filter fusion (GFF): base and detail of each source, weighted by saliency maps that follow its edges.

    Li, Kang and Hu 2013, IEEE Trans. Image Process. 22(7), with their parameters (31 x 31 mean; Laplacian and
    Gaussian of radius and sigma 5; r₁ = 45, ε₁ = 0.3; r₂ = 7, ε₂ = 1e-6) and the nearest pixel beyond the border. Where
    both saliences are equal each source has weight 1/2; refined weights are clipped to [0, 1] before they are
    normalised, because a local linear model can leave that range. The saliency knows edges only, so a hot target
    without texture can give way to a textured visible background.

    Args:
        ir: infrared picture, float32 (h, w) in [0, 1].
        vis_y: luminance of the visible picture, likewise.

    Returns:
        float32 (h, w), clipped to [0, 1]; two equal sources come back up to rounding.

    Raises:
        ValueError: see `check_sources`.
    """
    check_sources(ir, vis_y)
    # ε₂ is of the size of float32's rounding of a squared mean.
    sources = [source.astype(np.float64) for source in (ir, vis_y)]
    bases = [uniform_filter(source, _BOX, mode="nearest") for source in sources]
    details = [source - base for source, base in zip(sources, bases, strict=True)]
    choices = _choices(*(_saliency(source) for source in sources))
    fused = np.zeros(ir.shape)
    for layers, (radius, regularisation) in ((bases, _BASE), (details, _DETAIL)):
        refined = [
            np.clip(guided_filter(choice, source, radius, regularisation), 0, 1)
            for choice, source in zip(choices, sources, strict=True)
        ]
        # Both weights can be 0; the small term then makes it a plain mean.
        weights = [weight + 1e-12 for weight in refined]
        fused += (weights[0] * layers[0] + weights[1] * layers[1]) / (weights[0] + weights[1])
    return np.clip(fused, 0, 1).astype(np.float32)


def guided_filter(picture: np.ndarray, guide: np.ndarray, radius: int, regularisation: float) -> np.ndarray:
    """Edge-preserving smoothing: in each window the picture is fitted as a linear function of the guide.

    He, Sun and Tang 2013, IEEE TPAMI 35(6), Eq. 5, 6 and 8. Windows are cut off at the border.

    Args:
        picture: float64 (h, w), what is smoothed.
        guide: float64 (h, w), whose edges are kept.
        radius: half the side of the square windows, in pixels: side 2·radius + 1.
        regularisation: ε, in squared units of the guide; windows of smaller variance are averaged.

    Returns:
        float64 (h, w).
    """
    size = 2 * radius + 1
    inside = uniform_filter(np.ones(guide.shape), size, mode="constant")

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, size, mode="constant") / inside

    mean_guide, mean_picture = mean(guide), mean(picture)
    variance = mean(guide * guide) - mean_guide * mean_guide
    slope = (mean(guide * picture) - mean_guide * mean_picture) / (variance + regularisation)
    return mean(slope) * guide + mean(mean_picture - slope * mean_guide)


def _saliency(source: np.ndarray) -> np.ndarray:
    edges = np.abs(laplace(source, mode="nearest"))
    return gaussian_filter(edges, _SALIENCY_SIGMA, mode="nearest", radius=_SALIENCY_RADIUS)


def _choices(ir: np.ndarray, vis: np.ndarray) -> list[np.ndarray]:
    return [(ir >= vis).astype(np.float64), (vis >= ir).astype(np.float64)]


BASELINES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = MappingProxyType(
    {"average": average, "maximum": maximum, "laplacian": laplacian, "guided": guided}
)
