"""Classical fusion methods, to compare with: average, maximum, Laplacian pyramid and guided filter.

Every method in `BASELINES` is a function of two float32 images (h, w) in [0, 1], infrared and luminance of the visible
one, at least 16 x 16 pixels, and returns the fused luminance likewise, clipped to [0, 1]. Two equal sources come back
unchanged up to rounding. ValueError if the images are unusable, see `check_sources`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import convolve1d, gaussian_filter, laplace, uniform_filter

Luminance: TypeAlias = Float32[np.ndarray, "h w"]

MIN_SIZE = 16
"""The smallest height and width, in pixels: one step of the pyramid on top of a base 8 pixels high or wide."""

# The generating kernel of Burt and Adelson with a = 0.4, the one closest to a Gaussian.
_KERNEL = np.array([0.05, 0.25, 0.4, 0.25, 0.05])

# The parameters of Li, Kang and Hu: box of the two-scale decomposition, Gaussian of the saliency (radius and sigma),
# radius and regularisation of the guided filter for base and detail.
_BOX = 31
_SALIENCY_RADIUS, _SALIENCY_SIGMA = 5, 5.0
_BASE = (45, 0.3)
_DETAIL = (7, 1e-6)


def check_sources(ir: Float32[np.ndarray, "..."], vis_y: Float32[np.ndarray, "..."]) -> None:
    """Refuses anything but two grey float images of one size in [0, 1].

    NumPy would silently broadcast some mismatched shapes, and on a 0-255 scale the constants of the guided filter mean
    something else.

    Raises:
        ValueError: not 2-D, shapes differ, a side shorter than `MIN_SIZE`, or a value outside [0, 1] or NaN.
    """
    if ir.shape != vis_y.shape or ir.ndim != 2:
        raise ValueError(f"need two images of one shape (h, w), got ir {ir.shape} and vis_y {vis_y.shape}")
    if min(ir.shape) < MIN_SIZE:
        raise ValueError(f"images must be at least {MIN_SIZE} pixels high and wide, got {ir.shape}")
    for name, image in (("ir", ir), ("vis_y", vis_y)):
        low, high = image.min(), image.max()
        # Written so that NaN, which compares as false, is refused too.
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name} must lie in [0, 1], got {low:g} to {high:g}")


def average(ir: Luminance, vis_y: Luminance) -> Luminance:
    """Averages both sources: no artefacts, half the contrast."""
    check_sources(ir, vis_y)
    return (ir + vis_y) / np.float32(2)


def maximum(ir: Luminance, vis_y: Luminance) -> Luminance:
    """Takes the brighter of both sources at each pixel: hot targets stay, dark texture is lost."""
    check_sources(ir, vis_y)
    return np.maximum(ir, vis_y)


def laplacian(ir: Luminance, vis_y: Luminance) -> Luminance:
    """Fuses Laplacian pyramids: at each scale the stronger detail, at the coarsest the mean.

    Pyramid: Burt and Adelson 1983, IEEE Trans. Commun. 31(4), a = 0.4, mirrored at the border; a level has half the
    size of the one below, rounded up; `depth` is the number of levels. Rule: of two details the one of larger absolute
    value (the infrared one where they are equal), of the coarsest level the average.
    """
    check_sources(ir, vis_y)
    levels = depth(*ir.shape)
    *ir_details, ir_base = decompose(ir, levels)
    *vis_details, vis_base = decompose(vis_y, levels)
    details = [np.where(np.abs(a) >= np.abs(b), a, b) for a, b in zip(ir_details, vis_details, strict=True)]
    return np.clip(reconstruct([*details, (ir_base + vis_base) / 2]), 0, 1).astype(np.float32)


def depth(height: int, width: int) -> int:
    """Returns the number of detail levels: the largest d with a shorter side of at least 8·2^d pixels; 0 below 16."""
    return max(0, (min(height, width) // (MIN_SIZE // 2)).bit_length() - 1)


def decompose(image: Luminance, levels: int) -> list[np.ndarray]:
    """Decomposes an image into a Laplacian pyramid (Burt and Adelson 1983, Eq. 1-3).

    Returns:
        float64 arrays: `levels` details from fine to coarse, then the base.
    """
    pyramid = []
    level = image.astype(np.float64)
    for _ in range(levels):
        coarse = _filter(level, _KERNEL)[::2, ::2]
        pyramid.append(level - _expand(coarse, level.shape))
        level = coarse
    return [*pyramid, level]


def reconstruct(pyramid: list[np.ndarray]) -> np.ndarray:
    """Inverts `decompose` (Burt and Adelson 1983, Eq. 4)."""
    *details, image = pyramid
    for detail in reversed(details):
        image = _expand(image, detail.shape) + detail
    return image


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


def guided(ir: Luminance, vis_y: Luminance) -> Luminance:
    """Fuses with guided filters (GFF): base and detail of each source, weighted by saliency maps along its edges.

    Li, Kang and Hu 2013, IEEE Trans. Image Process. 22(7), with their parameters (31 x 31 mean; Laplacian and Gaussian
    of radius and sigma 5; r₁ = 45, ε₁ = 0.3; r₂ = 7, ε₂ = 1e-6) and the nearest pixel beyond the border. Where both
    saliences are equal each source has weight 1/2; refined weights are clipped to [0, 1] before they are normalised,
    because a local linear model can leave that range. The saliency measures edges only, so a hot target without texture
    can be replaced by a textured visible background.
    """
    check_sources(ir, vis_y)
    # float64, because ε₂ is of the size of float32's rounding of a squared mean.
    sources = [source.astype(np.float64) for source in (ir, vis_y)]
    bases = [uniform_filter(source, _BOX, mode="nearest") for source in sources]
    details = [source - base for source, base in zip(sources, bases, strict=True)]
    ir_salience, vis_salience = (_saliency(source) for source in sources)
    choices = [(ir_salience >= vis_salience).astype(np.float64), (vis_salience >= ir_salience).astype(np.float64)]
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


def _saliency(source: np.ndarray) -> np.ndarray:
    edges = np.abs(laplace(source, mode="nearest"))
    return gaussian_filter(edges, _SALIENCY_SIGMA, mode="nearest", radius=_SALIENCY_RADIUS)


def guided_filter(image: np.ndarray, guide: np.ndarray, radius: int, regularisation: float) -> np.ndarray:
    """Smooths an image and keeps a guide's edges: in each window the image is fitted as a linear function of the guide.

    He, Sun and Tang 2013, IEEE TPAMI 35(6), Eq. 5, 6 and 8. Windows are cut off at the border.

    Args:
        image: float64 (h, w), smoothed.
        guide: float64 (h, w).
        radius: half the side of the square windows, in pixels: side 2·radius + 1.
        regularisation: ε, in squared units of the guide; windows of smaller variance are averaged.
    """
    size = 2 * radius + 1
    inside = uniform_filter(np.ones(guide.shape), size, mode="constant")

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, size, mode="constant") / inside

    mean_guide, mean_image = mean(guide), mean(image)
    variance = mean(guide * guide) - mean_guide * mean_guide
    slope = (mean(guide * image) - mean_guide * mean_image) / (variance + regularisation)
    return mean(slope) * guide + mean(mean_image - slope * mean_guide)


BASELINES: Mapping[str, Callable[[Luminance, Luminance], Luminance]] = MappingProxyType(
    {"average": average, "maximum": maximum, "laplacian": laplacian, "guided": guided}
)
