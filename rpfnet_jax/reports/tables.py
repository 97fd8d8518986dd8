"""Metric tables: per image as CSV, averaged as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from tabulate import tabulate

from rpfnet_jax.metrics import LOWER_IS_BETTER, PROTOCOLS, Summary, mean_interval, summarise

# Reported beside the paper's six, which reward contrast; the same under both protocols.
COMPANIONS = {
    "Qabf": "qabf",
    "MI": "mi",
    "AG": "ag",
    "SSIM": "ssim",
    "MS-SSIM": "ms_ssim",
    "Nabf": "nabf",
    "FMI": "fmi",
    "lift": "dark_lift",
    "keep": "target_keep",
}


def protocol_table(summary: Mapping[str, Summary], protocol: str) -> str:
    """The paper's six metrics and VIFp under one protocol as a Markdown table: mean and deviation over the images.

    Args:
        summary: column -> `Summary`, from `rpfnet_jax.metrics.summarise`.
        protocol: `standard` or `paper`; never both in one table.
    """
    return _table({name: summary[column] for name, column in PROTOCOLS[protocol].items()})


def companion_table(summary: Mapping[str, Summary]) -> str:
    """The `COMPANIONS` as a Markdown table, with the number of images each is defined on."""
    return _table({name: summary[column] for name, column in COMPANIONS.items()}, counts=True)


def evaluation_report(title: str, summary: Mapping[str, Summary], pairs: int) -> str:
    """A Markdown page: both protocols and the companions, with the number of pairs."""
    return "\n".join(
        [
            f"# {title}: {pairs} pairs",
            "",
            "Mean and population standard deviation over the images. Higher is better, except for Nabf and lift.",
            "",
            "## Protocol `standard` (floating point)",
            "",
            protocol_table(summary, "standard"),
            "",
            "## Protocol `paper` (MATLAB uint8 arithmetic, as IVIF papers print)",
            "",
            protocol_table(summary, "paper"),
            "",
            "## Beside the six",
            "",
            companion_table(summary),
            "",
        ]
    )


def summary_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """One line per column as a Markdown table: mean, deviation, bootstrap interval of the mean, number of images.

    Args:
        rows: image name -> row of values, as for `metrics_csv`.
    """
    lines = []
    for column, value in summarise(rows.values()).items():
        low, high = mean_interval([row[column] for row in rows.values()])
        name = f"{column} (lower is better)" if column in LOWER_IS_BETTER else column
        interval = f"{low:.4f} to {high:.4f}"
        lines.append([name, f"{value.mean:.4f}", f"{value.std:.4f}", interval, str(value.count)])
    headers = ["metric", "mean", "std", "95 % interval of the mean", "images"]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def metrics_csv(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Per-image values as CSV: column `image`, then the columns of `rpfnet_jax.metrics.measure`.

    Args:
        rows: image name -> row of values; all rows have the same columns.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for index, (image, row) in enumerate(rows.items()):
        if index == 0:
            writer.writerow(["image", *row])
        writer.writerow([image, *row.values()])
    return buffer.getvalue()


def read_metrics_csv(text: str) -> dict[str, dict[str, float]]:
    """The inverse of `metrics_csv`.

    Raises:
        ValueError: no column `image`, an image twice, a row of another length than the head, or a value that is no
            number.
    """
    head, *rows = [row for row in csv.reader(io.StringIO(text)) if row] or [[]]
    if head[:1] != ["image"]:
        raise ValueError("the first column must be `image`")
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{len(row)} values under {len(head)} columns: {','.join(row)}")
        if row[0] in values:
            raise ValueError(f"{row[0]} is there twice")
        values[row[0]] = {column: float(value) for column, value in zip(head[1:], row[1:], strict=True)}
    return values


def _table(columns: Mapping[str, Summary], counts: bool = False) -> str:
    rows = [
        ["mean", *(f"{value.mean:.4f}" for value in columns.values())],
        ["std", *(f"{value.std:.4f}" for value in columns.values())],
    ]
    if counts:
        rows.append(["images", *(str(value.count) for value in columns.values())])
    return tabulate(rows, headers=["", *columns], tablefmt="github", disable_numparse=True)
