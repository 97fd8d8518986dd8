"""Reference metrics for image fusion: float64 NumPy on 8-bit grey images.

The argument order is always fused image, infrared source, visible source.
"""

from rpfnet_jax.metrics.bootstrap import RESAMPLES, PairedDifference, mean_interval, paired_bootstrap
from rpfnet_jax.metrics.checks import Protocol
from rpfnet_jax.metrics.edges import nabf, qabf
from rpfnet_jax.metrics.features import fmi
from rpfnet_jax.metrics.fidelity import MIN_SIZE, viff, vifp, vifp_sum
from rpfnet_jax.metrics.gradient import average_gradient, spatial_frequency
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
from rpfnet_jax.metrics.sheet import COLUMNS, LOWER_IS_BETTER, PROTOCOLS, columns_of, measure
from rpfnet_jax.metrics.statistics import correlation_coefficient, scd, standard_deviation
from rpfnet_jax.metrics.structural import MS_SSIM_MIN_SIZE, ms_ssim, ms_ssim_sum, ssim, ssim_sum
from rpfnet_jax.metrics.summary import Summary, summarise

__all__ = [
    "COLUMNS",
    "LOWER_IS_BETTER",
    "MIN_SIZE",
    "MS_SSIM_MIN_SIZE",
    "PROTOCOLS",
    "RESAMPLES",
    "RINGS",
    "PairedDifference",
    "Protocol",
    "Standing",
    "Summary",
    "average_gradient",
    "columns_of",
    "correlation_coefficient",
    "dark_lift",
    "entropy",
    "fmi",
    "log_spectrum",
    "mean_interval",
    "measure",
    "ms_ssim",
    "ms_ssim_sum",
    "mutual_information",
    "nabf",
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
