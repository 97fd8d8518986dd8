"""Information theory: entropy and mutual information of grey level histograms, in bits."""

import numpy as np
from jaxtyping import UInt8

from rpfnet_jax.metrics.checks import Protocol, check_gray8, check_protocol

_LEVELS = 256


def _entropy_of_counts(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    # 0.0 + …: a constant image has entropy 0, not -0.
    return float(0.0 - np.sum(p * np.log2(p)))


def entropy(image: UInt8[np.ndarray, "h w"]) -> float:
    """Shannon entropy of the 256-bin grey level histogram (EN).

    Roberts, van Aardt and Ahmed 2008, J. Appl. Remote Sens. 2, 023522. The same in both protocols.

    Args:
        image: uint8 (h, w).

    Returns:
        Bits, in [0, 8]; 0 for a constant image.

    Raises:
        ValueError: not a uint8 grey image.
    """
    check_gray8(image)
    return _entropy_of_counts(np.bincount(image.ravel(), minlength=_LEVELS))


def mutual_information(
    fused: UInt8[np.ndarray, "h w"],
    ir: UInt8[np.ndarray, "h w"],
    vis: UInt8[np.ndarray, "h w"],
    *,
    protocol: Protocol = "standard",
) -> float:
    """Mutual information between the fused image and the sources, summed: I(F; IR) + I(F; VIS) (MI).

    Qu, Zhang and Yan 2002, Electronics Letters 38(7), with 256 x 256 bins. The `paper` protocol reproduces a
    common toolbox, which indexes the joint histogram with `level + 1` in 8-bit arithmetic: levels 254 and 255
    fall together there, but not in the marginal entropies, so images with white areas score a little higher.

    Args:
        fused: uint8 (h, w).
        ir: uint8 (h, w).
        vis: uint8 (h, w).
        protocol: "standard" or "paper".

    Returns:
        Bits (not nats), in [0, 16] for `standard`; 0 if the fused image is constant.

    Raises:
        ValueError: not uint8 grey images of one size, or an unknown protocol.
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
