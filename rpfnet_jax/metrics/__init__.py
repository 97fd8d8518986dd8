"""Metrics of image fusion.

Every metric is a function of 8-bit grey images, float64 inside, and shares this contract:

- Arguments are uint8 arrays (h, w) of one size, in the order fused image, infrared source, visible source; `to_gray8`
  makes them from colour or float images. The result is a Python float. Grey levels are on the scale 0-255.
- `protocol="standard"` is floating point arithmetic, what a textbook says. `protocol="paper"` is the saturating 8-bit
  arithmetic of the MATLAB toolboxes whose numbers the literature on infrared and visible fusion prints. A metric
  without this argument is the same in both. Never mix the two in one table.
- Higher is better except where stated.
- ValueError if an image is not uint8 and grey, sizes differ, or an image is smaller than the metric needs (stated where
  that is more than one pixel), or if the protocol is unknown.

`measure` computes all of them for one image, `measure_batch` in float32 for a batch, compiled; `METRICS` declares them.
Power spectra (`rpfnet_jax.metrics.psd`) are a study of their own and not among the columns. These metrics are written
here because no installable package has them under both protocols.
"""

from rpfnet_jax.metrics.comparison import (
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
from rpfnet_jax.metrics.inputs import to_gray8
from rpfnet_jax.metrics.psd import log_spectrum, power_spectrum, radial_profile, spectral_entropy, spectral_fidelity
from rpfnet_jax.metrics.registry import (
    COLUMNS,
    COMPANIONS,
    LOWER_IS_BETTER,
    METRICS,
    PROTOCOLS,
    Metric,
    columns_of,
    measure,
    measure_batch,
)
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
from rpfnet_jax.metrics.structural import ms_ssim, ms_ssim_sum, ssim, ssim_sum

__all__ = [
    "COLUMNS",
    "COMPANIONS",
    "LOWER_IS_BETTER",
    "METRICS",
    "MIN_SIZE",
    "PROTOCOLS",
    "Metric",
    "PairedDifference",
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
    "measure_batch",
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
