"""Reference metrics for image fusion: float64 NumPy on 8-bit grey images.

The argument order is always fused image, infrared source, visible source.
"""

from rpfnet_jax.metrics.comparison import (
    RESAMPLES,
    PairedDifference,
    Standing,
    Summary,
    mean_interval,
    paired_bootstrap,
    rank_of_ranks,
    summarise,
)
from rpfnet_jax.metrics.edges import nabf, qabf
from rpfnet_jax.metrics.features import fmi
from rpfnet_jax.metrics.fidelity import MIN_SIZE, viff, vifp, vifp_sum
from rpfnet_jax.metrics.inputs import Protocol, to_gray8
from rpfnet_jax.metrics.psd import (
    RINGS,
    log_spectrum,
    power_spectrum,
    radial_profile,
    spectral_entropy,
    spectral_fidelity,
)
from rpfnet_jax.metrics.registry import COLUMNS, LOWER_IS_BETTER, PROTOCOLS, columns_of, measure
from rpfnet_jax.metrics.statistics import (
    average_gradient,
    correlation_coefficient,
    dark_lift,
    entropy,
    mutual_information,
    scd,
    spatial_frequency,
    standard_deviation,
    target_keep,
)
from rpfnet_jax.metrics.structural import MS_SSIM_MIN_SIZE, ms_ssim, ms_ssim_sum, ssim, ssim_sum

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
