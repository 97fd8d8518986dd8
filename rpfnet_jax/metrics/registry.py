"""All metrics of one fused image, as one row of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import jax
import numpy as np
from jaxtyping import Array, Float32, Shaped, UInt8

from rpfnet_jax.metrics.edges import edges, nabf, qabf
from rpfnet_jax.metrics.features import fmi
from rpfnet_jax.metrics.fidelity import MIN_SIZE, fidelity, viff, vifp_sum
from rpfnet_jax.metrics.inputs import check_gray8
from rpfnet_jax.metrics.statistics import (
    average_gradient,
    correlation_coefficient,
    dark_lift,
    entropy,
    histograms,
    mutual_information,
    scd,
    spatial_frequency,
    standard_deviation,
    statistics,
    target_keep,
)
from rpfnet_jax.metrics.structural import MS_SSIM_MIN_SIZE, ms_ssim_sum, ssim_sum, structure

PROTOCOLS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "standard": MappingProxyType(
            {
                "EN": "en",
                "SF": "sf_standard",
                "SD": "sd_standard",
                "CC": "cc",
                "SCD": "scd",
                "VIFF": "viff_standard",
                "VIFp": "vifp_standard",
            }
        ),
        "paper": MappingProxyType(
            {
                "EN": "en",
                "SF": "sf_paper",
                "SD": "sd_paper",
                "CC": "cc",
                "SCD": "scd",
                "VIFF": "viff_paper",
                "VIFp": "vifp_paper",
            }
        ),
    }
)
"""For each protocol: printed name of a metric → column of `measure`. A table keeps to one protocol."""


COLUMNS = (
    "en",
    "sf_standard",
    "sf_paper",
    "sd_standard",
    "sd_paper",
    "cc",
    "scd",
    "viff_standard",
    "viff_paper",
    "vifp_standard",
    "vifp_paper",
    "qabf",
    "mi",
    "ag",
    "ssim",
    "ms_ssim",
    "nabf",
    "fmi",
    "dark_lift",
    "target_keep",
)
"""The columns of `measure`, in order."""

LOWER_IS_BETTER = frozenset({"nabf", "dark_lift"})
"""The columns of which less is better; of all others more is."""


def columns_of(protocol: str) -> tuple[str, ...]:
    """The columns of `measure` that belong into a table of one protocol, those that know no protocol included.

    Args:
        protocol: "standard", "paper" or "both".
    """
    other = {"standard": "_paper", "paper": "_standard", "both": None}[protocol]
    return tuple(column for column in COLUMNS if other is None or not column.endswith(other))


def measure(
    fused: Shaped[np.ndarray, "..."],
    ir: Shaped[np.ndarray, "..."],
    vis: Shaped[np.ndarray, "..."],
) -> dict[str, float]:
    """Computes every metric of one fused image.

    The arguments are annotated loosely because this is where foreign data arrives: the check below, not a
    type checker, tells what is wrong with it.

    Args:
        fused: uint8 (h, w), at least 41 x 41; `to_gray8` makes one from a colour or float picture.
        ir: uint8 (h, w).
        vis: uint8 (h, w).

    Returns:
        Column → value in the order of `COLUMNS`.
        Units are those of the functions with these names; qabf and mi follow the `standard` protocol, vifp,
        ssim and ms_ssim are sums over both sources. Higher is better except for `LOWER_IS_BETTER`. dark_lift and
        target_keep may be NaN, and ms_ssim is for images with a side of less than 161 pixels.

    Raises:
        ValueError: not uint8, not 2-D, sizes differ (the message names them), or smaller than 41 x 41.
    """
    check_gray8(fused, ir, vis, min_size=MIN_SIZE)
    triple = (fused, ir, vis)
    large = min(fused.shape) >= MS_SSIM_MIN_SIZE
    return {
        "en": entropy(fused),
        "sf_standard": spatial_frequency(fused),
        "sf_paper": spatial_frequency(fused, protocol="paper"),
        "sd_standard": standard_deviation(fused),
        "sd_paper": standard_deviation(fused, protocol="paper"),
        "cc": correlation_coefficient(*triple),
        "scd": scd(*triple),
        "viff_standard": viff(*triple),
        "viff_paper": viff(*triple, protocol="paper"),
        "vifp_standard": vifp_sum(*triple),
        "vifp_paper": vifp_sum(*triple, protocol="paper"),
        "qabf": qabf(*triple),
        "mi": mutual_information(*triple),
        "ag": average_gradient(fused),
        "ssim": ssim_sum(*triple),
        "ms_ssim": ms_ssim_sum(*triple) if large else math.nan,
        "nabf": nabf(*triple),
        "fmi": fmi(*triple),
        "dark_lift": dark_lift(*triple),
        "target_keep": target_keep(*triple),
    }


BATCH_COLUMNS = tuple(column for column in COLUMNS if column != "fmi")
"""The columns of `measure_batch`, in order."""


Batch = Array | np.ndarray


def measure_batch(
    fused: Shaped[Batch, "..."], ir: Shaped[Batch, "..."], vis: Shaped[Batch, "..."]
) -> dict[str, Float32[Array, " b"]]:
    """Computes what `rpfnet_jax.metrics.measure` does, of all images of a batch, in float32 and compiled.

    On photographs the values agree with `measure` to 1e-4 and better (relative). FMI is not among them: it sorts in
    every window, which is no work for array code. Each new shape of a batch is compiled, which takes seconds.

    Args:
        fused: uint8 (b, h, w), at least 41 x 41.
        ir: uint8 (b, h, w).
        vis: uint8 (b, h, w).

    Returns:
        Column -> one value per image, in the order of `COLUMNS`.

    Raises:
        ValueError: not uint8, not of one shape (b, h, w), or smaller than 41 x 41.
    """
    for image in (fused, ir, vis):
        if image.dtype != "uint8" or image.ndim != 3 or image.shape != fused.shape or min(image.shape[1:]) < MIN_SIZE:
            given = " and ".join(f"{image.dtype} {image.shape}" for image in (fused, ir, vis))
            raise ValueError(f"need uint8 batches of one shape (b, h, w), h and w at least {MIN_SIZE}; got {given}")
    columns = _measure(fused, ir, vis)
    # What comes out of jit is in alphabetical order.
    return {column: columns[column] for column in BATCH_COLUMNS}


@jax.jit
def _measure(*triple: UInt8[Array, "b h w"]) -> dict[str, Float32[Array, " b"]]:
    return fidelity(*triple) | structure(*triple) | edges(*triple) | statistics(*triple) | histograms(*triple)
