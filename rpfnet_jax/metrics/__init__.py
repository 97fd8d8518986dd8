"""Reference metrics for image fusion: float64 NumPy on 8-bit grey images.

The argument order is always fused image, infrared source, visible source.
"""

from rpfnet_jax.metrics.bootstrap import RESAMPLES, PairedDifference, paired_bootstrap
from rpfnet_jax.metrics.checks import Protocol
from rpfnet_jax.metrics.fidelity import MIN_SIZE, viff, vifp, vifp_sum
from rpfnet_jax.metrics.gradient import average_gradient, qabf, spatial_frequency
from rpfnet_jax.metrics.gray import to_gray8
from rpfnet_jax.metrics.information import entropy, mutual_information
from rpfnet_jax.metrics.night import dark_lift, target_keep
from rpfnet_jax.metrics.psd import (
    RINGS,
    log_spectrum,
    power_spectrum,
    radial_profile,
    spectral_entropy,
    spectral_fidelity,
)
from rpfnet_jax.metrics.ranking import Standing, rank_of_ranks
from rpfnet_jax.metrics.sheet import COLUMNS, PROTOCOLS, measure
from rpfnet_jax.metrics.statistics import correlation_coefficient, scd, standard_deviation
from rpfnet_jax.metrics.structural import ssim, ssim_sum
from rpfnet_jax.metrics.summary import Summary, summarise

__all__ = [
    "COLUMNS",
    "MIN_SIZE",
    "PROTOCOLS",
    "RESAMPLES",
    "RINGS",
    "PairedDifference",
    "Protocol",
    "Standing",
    "Summary",
    "average_gradient",
    "correlation_coefficient",
    "dark_lift",
    "entropy",
    "log_spectrum",
    "measure",
    "mutual_information",
    "paired_bootstrap",
    "power_spectrum",
    "qabf",
    "radial_profile",
    "rank_of_ranks",
    "scd",
    "spatial_frequency",
    "spectral_entropy",
    "spectral_fidelity",
    "ssim",
    "ssim_sum",
    "standard_deviation",
    "summarise",
    "target_keep",
    "to_gray8",
    "viff",
    "vifp",
    "vifp_sum",
]
