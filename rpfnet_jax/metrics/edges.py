"""What became of the edges of the sources: edge preservation (Qabf) and fusion artefacts (Nabf)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8
from scipy.ndimage import sobel

from rpfnet_jax.metrics.inputs import Protocol, check_gray8, check_protocol
from rpfnet_jax.metrics.windows import total


class Sigmoid(NamedTuple):
    height: float
    slope: float
    centre: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.height / (1 + np.exp(self.slope * (x - self.centre)))


QABF_STRENGTH = Sigmoid(0.9994, -15.0, 0.5)
QABF_ORIENTATION = Sigmoid(0.9879, -22.0, 0.8)

NABF_STRENGTH = Sigmoid(0.9999, -19.0, 0.5)
NABF_ORIENTATION = Sigmoid(0.9995, -22.0, 0.5)
# Weight of an edge: strength to this power; of what is weaker than the threshold, a constant.
NABF_POWER = 1.5
NABF_THRESHOLD = 2.0
NABF_LEAST_WEIGHT = 0.001


class _Edges(NamedTuple):
    """Edges of a picture, one entry per pixel.

    Attributes:
        strength: length of the gradient, in the units of the picture times 8 (Sobel).
        orientation: radians in [-π/2, π/2]; π/2 where the horizontal response is 0.
    """

    strength: np.ndarray
    orientation: np.ndarray


def _edges(dx: np.ndarray, dy: np.ndarray) -> _Edges:
    flat = dx == 0
    orientation = np.where(flat, np.pi / 2, np.arctan(dy / np.where(flat, 1.0, dx)))
    return _Edges(np.sqrt(dx**2 + dy**2), orientation)


def _sobel_exact(image: np.ndarray, mode: str = "constant") -> _Edges:
    levels = image.astype(np.float64)
    return _edges(sobel(levels, axis=1, mode=mode), -sobel(levels, axis=0, mode=mode))


def _sobel_matlab(image: np.ndarray) -> _Edges:
    """Sobel responses on the [0, 1] scale, added in MATLAB's order.

    Most multiples of 1/255 are not exact in binary, so a response that should be 0 may come out as 1e-17, and
    then the orientation is noise instead of π/2. To reproduce a published Qabf the sum has to be taken in the
    same order: `conv2` goes through the kernel column by column, from the last element to the first.
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
    """The weaker strength over the stronger; 0 where neither has an edge."""
    stronger = np.maximum(source.strength, fused.strength)
    return np.minimum(source.strength, fused.strength) / np.where(stronger > 0, stronger, 1.0)


def _turn(source: _Edges, fused: _Edges) -> np.ndarray:
    """Difference of the orientations in right angles, in [0, 2]."""
    return np.abs(source.orientation - fused.orientation) / (np.pi / 2)


def qabf(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
    *,
    protocol: Protocol = "standard",
) -> float:
    """Edge information carried from the sources into the fused image, weighted by edge strength (Qabf).

    Xydeas and Petrović 2000, Electronics Letters 36(4), with Gamma_g = 0.9994, kappa_g = -15, sigma_g = 0.5,
    Gamma_a = 0.9879, kappa_a = -22, sigma_a = 0.8 and L = 1. Sobel responses with zeros outside the image, as
    in every toolbox: the frame counts as an edge. Where the horizontal response is 0 the orientation is π/2.

    `standard` is exact arithmetic; equal strengths have ratio 1. `paper` is, to the last digit, what a common
    MATLAB toolbox computes: images in [0, 1] with their rounding noise, and where two strengths are equal
    their ratio is replaced by the strength itself. On fused photographs the two differ by about 0.001, but
    `paper` gives an exact copy of both sources as little as 0.4.

    Args:
        fused: uint8 (h, w).
        ir: uint8 (h, w).
        vis: uint8 (h, w).
        protocol: "standard" or "paper".

    Returns:
        A number in [0, 1); the sigmoids end at 0.975, which three equal images reach. If both sources are
        black everywhere there is no edge to keep, and the result is 0.0.

    Raises:
        ValueError: not uint8 grey images of one size, or an unknown protocol.
    """
    check_gray8(fused, ir, vis)
    check_protocol(protocol)
    find_edges = _sobel_matlab if protocol == "paper" else _sobel_exact
    edges_fused = find_edges(fused)
    kept = total = 0.0
    for source in (ir, vis):
        edges = find_edges(source)
        tie = edges.strength == edges_fused.strength
        ratio = _strength_ratio(edges, edges_fused)
        ratio = np.where(tie, edges.strength if protocol == "paper" else 1.0, ratio)
        quality = QABF_STRENGTH(ratio) * QABF_ORIENTATION(1 - _turn(edges, edges_fused))
        kept += np.sum(quality * edges.strength)
        total += np.sum(edges.strength)
    return float(kept / total) if total > 0 else 0.0


def nabf(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
) -> float:
    """Fusion artefacts: edges of the fused image that are in neither source (Nabf). Lower is better.

    Petrović and Xydeas 2005 (ICCV) in the form of Shreyamsha Kumar 2013, Signal, Image and Video Processing 7(6).
    Where the fused edge is stronger than both sources', what is not preserved of them counts:
    Σ (1 - Q_IR)·w_IR + (1 - Q_VIS)·w_VIS over those pixels, divided by Σ w_IR + w_VIS over all. Q is the root of
    two sigmoids, of the ratio of strengths (0.9999, -19, 0.5) and of the alignment of orientations (0.9995, -22,
    0.5), where opposite gradients are aligned. w is the strength to the power of 1.5, and 0.001 for strengths below
    2 grey levels per pixel. Sobel responses over 8, the picture mirrored at the border, as in Kumar's code, hence
    unlike Qabf's.

    Args:
        fused: uint8 (h, w), at least 2 x 2.
        ir: uint8 (h, w).
        vis: uint8 (h, w).

    Returns:
        A number in [0, 1]; 0 if nowhere the fused edge is the strongest, as when it equals a source.

    Raises:
        ValueError: not uint8 grey images of one size of at least 2 x 2 pixels.
    """
    check_gray8(fused, ir, vis, min_size=2)
    edges_fused = _sobel_exact(fused, "mirror")
    sources = [_sobel_exact(source, "mirror") for source in (ir, vis)]
    new = np.logical_and.reduce([edges_fused.strength > source.strength for source in sources])
    lost = total = 0.0
    for source in sources:
        alignment = np.abs(_turn(source, edges_fused) - 1)
        ratio = _strength_ratio(source, edges_fused)
        quality = np.sqrt(NABF_STRENGTH(ratio) * NABF_ORIENTATION(alignment))
        strength = source.strength / 8
        weight = np.where(strength >= NABF_THRESHOLD, strength**NABF_POWER, NABF_LEAST_WEIGHT)
        lost += np.sum(((1 - quality) * weight)[new])
        total += np.sum(weight)
    return float(lost / total)


class _JaxEdges(NamedTuple):
    """See `rpfnet_jax.metrics.edges`; `power` is the squared strength, a whole number and exact."""

    power: Array
    orientation: Array

    @property
    def strength(self) -> Array:
        return jnp.sqrt(self.power)


def edges(
    fused: UInt8[Array, "b h w"], ir: UInt8[Array, "b h w"], vis: UInt8[Array, "b h w"]
) -> dict[str, Float32[Array, " b"]]:
    """The columns `qabf` and `nabf` of `measure`."""
    return {"qabf": _qabf(fused, ir, vis), "nabf": _nabf(fused, ir, vis)}


def _qabf(fused: Array, ir: Array, vis: Array) -> Array:
    found = _find(fused, "constant")
    kept, available = jnp.zeros(len(fused)), jnp.zeros(len(fused))
    for source in (_find(ir, "constant"), _find(vis, "constant")):
        ratio = jnp.where(source.power == found.power, 1.0, _jax_strength_ratio(source, found))
        quality = _sigmoid(QABF_STRENGTH, ratio) * _sigmoid(QABF_ORIENTATION, 1 - _jax_turn(source, found))
        kept += total(quality * source.strength)
        available += total(source.strength)
    return jnp.where(available > 0, kept / jnp.where(available > 0, available, 1.0), 0.0)


def _nabf(fused: Array, ir: Array, vis: Array) -> Array:
    found, sources = _find(fused, "reflect"), [_find(ir, "reflect"), _find(vis, "reflect")]
    new = (found.power > sources[0].power) & (found.power > sources[1].power)
    lost, available = jnp.zeros(len(fused)), jnp.zeros(len(fused))
    for source in sources:
        alignment = jnp.abs(_jax_turn(source, found) - 1)
        lost_strength = _one_minus_sigmoid(NABF_STRENGTH, _jax_strength_ratio(source, found))
        lost_orientation = _one_minus_sigmoid(NABF_ORIENTATION, alignment)
        # 1 - quality² first: quality is close to 1, and the difference would keep four digits.
        missing = lost_strength + lost_orientation - lost_strength * lost_orientation
        missing /= 1 + jnp.sqrt(1 - missing)
        strong = source.power >= (8 * NABF_THRESHOLD) ** 2
        weight = jnp.where(strong, (source.power / 64) ** (NABF_POWER / 2), NABF_LEAST_WEIGHT)
        lost += total(jnp.where(new, missing * weight, 0.0))
        available += total(weight)
    return lost / available


def _find(image: Array, mode: str) -> _JaxEdges:
    padded = jnp.pad(image.astype(jnp.float32), ((0, 0), (1, 1), (1, 1)), mode=mode)
    smooth_y = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth_x = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    dx, dy = smooth_y[:, :, 2:] - smooth_y[:, :, :-2], smooth_x[:, :-2] - smooth_x[:, 2:]
    flat = dx == 0
    orientation = jnp.where(flat, jnp.pi / 2, jnp.arctan(dy / jnp.where(flat, 1.0, dx)))
    return _JaxEdges(dx**2 + dy**2, orientation)


def _sigmoid(parameters: Sigmoid, x: Array) -> Array:
    height, slope, centre = parameters
    return height / (1 + jnp.exp(slope * (x - centre)))


def _one_minus_sigmoid(parameters: Sigmoid, x: Array) -> Array:
    height, slope, centre = parameters
    exponential = jnp.exp(slope * (x - centre))
    return ((1 - height) + exponential) / (1 + exponential)


def _jax_strength_ratio(source: _JaxEdges, fused: _JaxEdges) -> Array:
    stronger = jnp.maximum(source.power, fused.power)
    return jnp.sqrt(jnp.minimum(source.power, fused.power) / jnp.where(stronger > 0, stronger, 1.0))


def _jax_turn(source: _JaxEdges, fused: _JaxEdges) -> Array:
    return jnp.abs(source.orientation - fused.orientation) / (jnp.pi / 2)
