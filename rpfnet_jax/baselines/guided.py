"""Fusion with guided filtering."""

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter, laplace, uniform_filter

from rpfnet_jax.baselines.checks import check_sources

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
