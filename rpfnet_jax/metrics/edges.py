"""Edges of the sources in the fused image: edge preservation (Qabf) and fusion artefacts (Nabf)."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.ndimage import sobel

from rpfnet_jax.metrics.inputs import Columns, Gray, GrayBatch, Protocol, check_batch, check_gray8, check_protocol
from rpfnet_jax.metrics.windows import ratio, total


class Sigmoid(NamedTuple):
    height: float
    slope: float
    centre: float

    def __call__(self, x: Any, xp: ModuleType = np) -> Any:
        """`xp` is NumPy or jax.numpy."""
        return self.height / (1 + xp.exp(self.slope * (x - self.centre)))


QABF_STRENGTH = Sigmoid(0.9994, -15.0, 0.5)
QABF_ORIENTATION = Sigmoid(0.9879, -22.0, 0.8)

NABF_STRENGTH = Sigmoid(0.9999, -19.0, 0.5)
NABF_ORIENTATION = Sigmoid(0.9995, -22.0, 0.5)
# The weight of an edge is its strength to this power; below the threshold, a constant.
NABF_POWER = 1.5
NABF_THRESHOLD = 2.0
NABF_LEAST_WEIGHT = 0.001


class _Edges(NamedTuple):
    """Edges of an image, one entry per pixel.

    Attributes:
        strength: length of the gradient, in the units of the image times 8 (Sobel).
        orientation: radians in [-π/2, π/2]; π/2 where the horizontal response is 0.
    """

    strength: np.ndarray
    orientation: np.ndarray


class _BatchEdges(NamedTuple):
    """`_Edges` of a batch; `power` is the squared strength, a whole number and exact."""

    power: Array
    orientation: Array

    @property
    def strength(self) -> Array:
        return jnp.sqrt(self.power)


def qabf(fused: Gray, ir: Gray, vis: Gray, *, protocol: Protocol = "standard") -> float:
    """Computes the edge information carried from the sources into the fused image, weighted by edge strength (Qabf).

    Xydeas and Petrović 2000, Electronics Letters 36(4), with Gamma_g = 0.9994, kappa_g = -15, sigma_g = 0.5, Gamma_a =
    0.9879, kappa_a = -22, sigma_a = 0.8 and L = 1. Sobel responses with zeros outside the image, as in every toolbox:
    the frame counts as an edge. Where the horizontal response is 0 the orientation is π/2.

    `standard` is exact arithmetic; equal strengths have ratio 1. `paper` is, to the last digit, what a common MATLAB
    toolbox computes: images in [0, 1] with their rounding noise, and where two strengths are equal their ratio is
    replaced by the strength itself. On fused photographs the two differ by about 0.001, but `paper` gives an exact
    copy of both sources as little as 0.4.

    Returns:
        A number in [0, 1); the sigmoids end at 0.975, which three equal images reach. If both sources are black
        everywhere there is no edge to keep: 0.
    """
    check_gray8(fused, ir, vis)
    check_protocol(protocol)
    find_edges = _sobel_matlab if protocol == "paper" else _sobel_exact
    edges_fused = find_edges(fused)
    kept = available = 0.0
    for source in (ir, vis):
        edges = find_edges(source)
        tie = edges.strength == edges_fused.strength
        of_ties = edges.strength if protocol == "paper" else 1.0
        strengths = np.where(tie, of_ties, _strength_ratio(edges, edges_fused))
        quality = QABF_STRENGTH(strengths) * QABF_ORIENTATION(1 - _turn(edges, edges_fused))
        kept += np.sum(quality * edges.strength)
        available += np.sum(edges.strength)
    return float(kept / available) if available > 0 else 0.0


def nabf(fused: Gray, ir: Gray, vis: Gray) -> float:
    """Computes the fusion artefacts: edges of the fused image that are in neither source (Nabf). Lower is better.

    Petrović and Xydeas 2005 (ICCV) in the form of Shreyamsha Kumar 2013, Signal, Image and Video Processing 7(6), for
    at least 2 x 2 pixels. Where the fused edge is stronger than those of both sources, what is not preserved of them
    counts: Σ (1 - Q_IR)·w_IR + (1 - Q_VIS)·w_VIS over those pixels, divided by Σ w_IR + w_VIS over all. Q is the root
    of two sigmoids, of the ratio of strengths (0.9999, -19, 0.5) and of the alignment of orientations (0.9995, -22,
    0.5), where opposite gradients are aligned. w is the strength to the power of 1.5, and 0.001 for strengths below 2
    grey levels per pixel. Sobel responses are divided by 8 and the image is mirrored at the border, as in Kumar's
    code, unlike for Qabf.

    Returns:
        A number in [0, 1]; 0 if the fused edge is nowhere the strongest, as when the fused image equals a source.
    """
    check_gray8(fused, ir, vis, min_size=2)
    edges_fused = _sobel_exact(fused, "mirror")
    sources = [_sobel_exact(source, "mirror") for source in (ir, vis)]
    new = np.logical_and.reduce([edges_fused.strength > source.strength for source in sources])
    lost = available = 0.0
    for source in sources:
        alignment = np.abs(_turn(source, edges_fused) - 1)
        quality = np.sqrt(NABF_STRENGTH(_strength_ratio(source, edges_fused)) * NABF_ORIENTATION(alignment))
        strength = source.strength / 8
        weight = np.where(strength >= NABF_THRESHOLD, strength**NABF_POWER, NABF_LEAST_WEIGHT)
        lost += np.sum(((1 - quality) * weight)[new])
        available += np.sum(weight)
    return float(lost / available)


def _edges(dx: np.ndarray, dy: np.ndarray) -> _Edges:
    return _Edges(np.sqrt(dx**2 + dy**2), _orientation(np, dx, dy))


def _orientation(xp: ModuleType, dx: Any, dy: Any) -> Any:
    flat = dx == 0
    return xp.where(flat, xp.pi / 2, xp.arctan(dy / xp.where(flat, 1.0, dx)))


def _sobel_exact(image: np.ndarray, mode: str = "constant") -> _Edges:
    levels = image.astype(np.float64)
    return _edges(sobel(levels, axis=1, mode=mode), -sobel(levels, axis=0, mode=mode))


def _sobel_matlab(image: np.ndarray) -> _Edges:
    """Computes Sobel responses on the [0, 1] scale, added in MATLAB's order.

    Most multiples of 1/255 are not exact in binary, so a response that should be 0 may come out as 1e-17, and then the
    orientation is noise instead of π/2. To reproduce a published Qabf the sum has to be taken in the same order:
    `conv2` goes through the kernel column by column, from the last element to the first.
    """
    height, width = image.shape
    padded = np.pad(image / 255.0, 1)
    dx = np.zeros(image.shape)
    dy = np.zeros(image.shape)
    smooth, slope = (1.0, 2.0, 1.0), (-1.0, 0.0, 1.0)
    for column in (2, 1, 0):
        for row in (2, 1, 0):
            shifted = padded[row : row + height, column : column + width]
            if slope[column]:
                dx += slope[column] * smooth[row] * shifted
            if slope[row]:
                dy -= slope[row] * smooth[column] * shifted
    return _edges(dx, dy)


def _strength_ratio(source: _Edges, fused: _Edges) -> np.ndarray:
    """Divides the weaker strength by the stronger; 0 where neither has an edge."""
    stronger = np.maximum(source.strength, fused.strength)
    return np.minimum(source.strength, fused.strength) / np.where(stronger > 0, stronger, 1.0)


def _turn(source: _Edges | _BatchEdges, fused: _Edges | _BatchEdges) -> np.ndarray | Array:
    """Computes the difference of the orientations in right angles, in [0, 2]."""
    return abs(source.orientation - fused.orientation) / (np.pi / 2)


def edges(fused: GrayBatch, ir: GrayBatch, vis: GrayBatch) -> Columns:
    """Twin of the columns `qabf` and `nabf`."""
    check_batch(fused, ir, vis)
    return {"qabf": _batch_qabf(fused, ir, vis), "nabf": _batch_nabf(fused, ir, vis)}


def _batch_qabf(fused: Array, ir: Array, vis: Array) -> Array:
    found = _batch_sobel(fused, "constant")
    kept, available = jnp.zeros(len(fused)), jnp.zeros(len(fused))
    for source in (_batch_sobel(ir, "constant"), _batch_sobel(vis, "constant")):
        strength_ratio = jnp.where(source.power == found.power, 1.0, _batch_strength_ratio(source, found))
        quality = QABF_STRENGTH(strength_ratio, jnp) * QABF_ORIENTATION(1 - _turn(source, found), jnp)
        kept += total(quality * source.strength)
        available += total(source.strength)
    return ratio(kept, available, otherwise=0.0)


def _batch_nabf(fused: Array, ir: Array, vis: Array) -> Array:
    found, sources = _batch_sobel(fused, "reflect"), [_batch_sobel(ir, "reflect"), _batch_sobel(vis, "reflect")]
    new = (found.power > sources[0].power) & (found.power > sources[1].power)
    lost, available = jnp.zeros(len(fused)), jnp.zeros(len(fused))
    for source in sources:
        alignment = jnp.abs(_turn(source, found) - 1)
        lost_strength = _one_minus_sigmoid(NABF_STRENGTH, _batch_strength_ratio(source, found))
        lost_orientation = _one_minus_sigmoid(NABF_ORIENTATION, alignment)
        # 1 - quality² first: quality is close to 1, and the difference would keep four digits.
        missing = lost_strength + lost_orientation - lost_strength * lost_orientation
        missing /= 1 + jnp.sqrt(1 - missing)
        strong = source.power >= (8 * NABF_THRESHOLD) ** 2
        weight = jnp.where(strong, (source.power / 64) ** (NABF_POWER / 2), NABF_LEAST_WEIGHT)
        lost += total(jnp.where(new, missing * weight, 0.0))
        available += total(weight)
    return lost / available


def _batch_sobel(image: Array, mode: str) -> _BatchEdges:
    padded = jnp.pad(image.astype(jnp.float32), ((0, 0), (1, 1), (1, 1)), mode=mode)
    smooth_y = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth_x = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    dx, dy = smooth_y[:, :, 2:] - smooth_y[:, :, :-2], smooth_x[:, :-2] - smooth_x[:, 2:]
    return _BatchEdges(dx**2 + dy**2, _orientation(jnp, dx, dy))


def _one_minus_sigmoid(parameters: Sigmoid, x: Array) -> Array:
    height, slope, centre = parameters
    exponential = jnp.exp(slope * (x - centre))
    return ((1 - height) + exponential) / (1 + exponential)


def _batch_strength_ratio(source: _BatchEdges, fused: _BatchEdges) -> Array:
    stronger = jnp.maximum(source.power, fused.power)
    return jnp.sqrt(jnp.minimum(source.power, fused.power) / jnp.where(stronger > 0, stronger, 1.0))
