"""The metrics, each declared once: `METRICS`, and what measures with it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, get_args

import jax
import numpy as np
from jaxtyping import Array, Float32, Shaped

from rpfnet_jax.metrics.edges import edges, nabf, qabf
from rpfnet_jax.metrics.features import fmi
from rpfnet_jax.metrics.fidelity import MIN_SIZE, fidelity, viff, vifp_sum
from rpfnet_jax.metrics.inputs import Columns, Gray, GrayBatch, Protocol, check_gray8
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

_BOTH: tuple[Protocol, ...] = get_args(Protocol)


class Metric(NamedTuple):
    """One column of `measure`.

    Attributes:
        column: its name there and in CSV files.
        label: its name in tables; one label stands for two columns where the protocols differ.
        function: the float64 reference, from a fused image and its sources (infrared, visible) to a number.
        twin: a float32 function for `jax.jit` from batches of the three to several columns, `column` among them; twins
            compute in groups what shares its work. None: there is only the reference.
        protocols: the protocols whose tables it belongs to.
        higher_is_better: the direction.
        companion: whether tables show it beside the paper's metrics instead of among them.
        min_size: smallest height and width in pixels; NaN for smaller images.
    """

    column: str
    label: str
    function: Callable[[Gray, Gray, Gray], float]
    twin: Callable[[GrayBatch, GrayBatch, GrayBatch], Columns] | None = None
    protocols: tuple[Protocol, ...] = _BOTH
    higher_is_better: bool = True
    companion: bool = False
    min_size: int = MIN_SIZE


def _of_fused(function: Callable[..., float], **options: str) -> Callable[[Gray, Gray, Gray], float]:
    """Adapts a function of the fused image alone."""
    return lambda fused, ir, vis: function(fused, **options)


def _by_protocol(column: str, label: str, function: Callable[..., float], twin: Callable[..., Columns]) -> list[Metric]:
    """Declares a metric that the two protocols compute differently; `function` takes fused, ir, vis and protocol."""
    return [
        Metric(f"{column}_{protocol}", label, functools.partial(function, protocol=protocol), twin, (protocol,))
        for protocol in _BOTH
    ]


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.column: metric
        for metric in (
            Metric("en", "EN", _of_fused(entropy), histograms),
            *_by_protocol("sf", "SF", lambda f, i, v, protocol: spatial_frequency(f, protocol=protocol), statistics),
            *_by_protocol("sd", "SD", lambda f, i, v, protocol: standard_deviation(f, protocol=protocol), statistics),
            Metric("cc", "CC", correlation_coefficient, statistics),
            Metric("scd", "SCD", scd, statistics),
            *_by_protocol("viff", "VIFF", viff, fidelity),
            *_by_protocol("vifp", "VIFp", vifp_sum, fidelity),
            # The paper's metrics reward contrast; these stand beside them. Qabf and MI follow the `standard` protocol.
            Metric("qabf", "Qabf", qabf, edges, companion=True),
            Metric("mi", "MI", mutual_information, histograms, companion=True),
            Metric("ag", "AG", _of_fused(average_gradient), statistics, companion=True),
            Metric("ssim", "SSIM", ssim_sum, structure, companion=True),
            Metric("ms_ssim", "MS-SSIM", ms_ssim_sum, structure, companion=True, min_size=MS_SSIM_MIN_SIZE),
            Metric("nabf", "Nabf", nabf, edges, companion=True, higher_is_better=False),
            Metric("fmi", "FMI", fmi, companion=True),
            Metric("dark_lift", "lift", dark_lift, histograms, companion=True, higher_is_better=False),
            Metric("target_keep", "keep", target_keep, histograms, companion=True),
        )
    }
)
"""Column -> `Metric`, in the order of all tables. A new metric is declared here and written in a file of its own."""

COLUMNS = tuple(METRICS)
"""The columns of `measure`, in order."""

LOWER_IS_BETTER = frozenset(column for column, metric in METRICS.items() if not metric.higher_is_better)
"""The columns of which less is better; of all others more is."""

PROTOCOLS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        protocol: MappingProxyType(
            {m.label: m.column for m in METRICS.values() if protocol in m.protocols and not m.companion}
        )
        for protocol in _BOTH
    }
)
"""For each protocol: label -> column of the metrics that its table shows. A table keeps to one protocol."""

COMPANIONS: Mapping[str, str] = MappingProxyType({m.label: m.column for m in METRICS.values() if m.companion})
"""Label -> column of the metrics reported beside those of either protocol."""


def columns_of(protocol: str) -> tuple[str, ...]:
    """Returns the columns of a table of one protocol, those that both protocols share included.

    Args:
        protocol: "standard", "paper" or "both".
    """
    return tuple(column for column, metric in METRICS.items() if protocol == "both" or protocol in metric.protocols)


def measure(
    fused: Shaped[np.ndarray, "..."], ir: Shaped[np.ndarray, "..."], vis: Shaped[np.ndarray, "..."]
) -> dict[str, float]:
    """Computes every metric of one fused image in float64: the reference.

    The arguments are annotated loosely because foreign data arrives here: the check below explains what is wrong with
    it better than a type checker.

    Args:
        fused: uint8 (h, w), at least 41 x 41; `to_gray8` makes one from a colour or float image.
        ir: uint8 (h, w).
        vis: uint8 (h, w).

    Returns:
        Column -> value in the order of `COLUMNS`. vifp, ssim and ms_ssim are sums over both sources. dark_lift and
        target_keep may be NaN, and ms_ssim is for images with a side of less than 161 pixels.

    Raises:
        ValueError: not uint8, not 2-D, sizes differ (the message names them), or smaller than 41 x 41.
    """
    check_gray8(fused, ir, vis, min_size=MIN_SIZE)
    return {column: _reference(metric, fused, ir, vis) for column, metric in METRICS.items()}


Batch = Array | np.ndarray


def measure_batch(
    fused: Shaped[Batch, "..."],
    ir: Shaped[Batch, "..."],
    vis: Shaped[Batch, "..."],
    columns: Sequence[str] | None = None,
) -> dict[str, Float32[np.ndarray, " b"]]:
    """Computes the metrics of all images of a batch in float32: the twins, compiled.

    On photographs the values agree with `measure` to 1e-4 and better (relative). FMI has no twin and uses its
    reference, image by image, which takes longer than all twins together; leave it out with `columns` where it does
    not matter. Each new shape of a batch and each new choice of columns is compiled, which takes seconds.

    Args:
        fused: uint8 (b, h, w), at least 41 x 41.
        ir: uint8 (b, h, w).
        vis: uint8 (b, h, w).
        columns: the columns to compute; None: all.

    Returns:
        Column -> one value per image, in the order of `columns` (`COLUMNS`).

    Raises:
        ValueError: not uint8, not of one shape (b, h, w), smaller than 41 x 41, or an unknown column.
    """
    for image in (fused, ir, vis):
        if image.dtype != "uint8" or image.ndim != 3 or image.shape != fused.shape or min(image.shape[1:]) < MIN_SIZE:
            given = " and ".join(f"{image.dtype} {image.shape}" for image in (fused, ir, vis))
            raise ValueError(f"need uint8 batches of one shape (b, h, w), h and w at least {MIN_SIZE}; got {given}")
    chosen = COLUMNS if columns is None else tuple(columns)
    unknown = [column for column in chosen if column not in METRICS]
    if unknown:
        raise ValueError(f"unknown columns {', '.join(unknown)}; known are {', '.join(COLUMNS)}")
    # Dispatched first: the device computes the twins while this thread computes the references.
    values: dict[str, Batch] = dict(_twins(fused, ir, vis, tuple(column for column in chosen if METRICS[column].twin)))
    for column in chosen:
        if column not in values:
            triples = zip(*map(np.asarray, (fused, ir, vis)), strict=True)
            values[column] = np.array([_reference(METRICS[column], *triple) for triple in triples], np.float32)
    return {column: np.asarray(values[column]) for column in chosen}


def _reference(metric: Metric, fused: np.ndarray, ir: np.ndarray, vis: np.ndarray) -> float:
    return metric.function(fused, ir, vis) if min(fused.shape) >= metric.min_size else math.nan


@functools.partial(jax.jit, static_argnames="columns")
def _twins(fused: GrayBatch, ir: GrayBatch, vis: GrayBatch, columns: tuple[str, ...]) -> Columns:
    found: Columns = {}
    for column in columns:
        twin = METRICS[column].twin
        # Each twin once: it computes other columns, too.
        if twin is not None and column not in found:
            found |= twin(fused, ir, vis)
    return {column: found[column] for column in columns}
