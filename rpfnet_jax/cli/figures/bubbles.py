"""A metric against parameters and FLOPs, from a CSV file (the paper's Figure 1b).

    rpfnet figure bubbles methods.csv --out=cost.pdf

The file has the columns name, the metric (under its own name), parameters, gflops; `rpfnet cost` counts the last two.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rpfnet_jax.reports import bubble_figure, read_bubbles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, metavar="CSV", help="one row per method")


def draw(options: argparse.Namespace) -> Any:
    try:
        metric, bubbles = read_bubbles(options.table.read_text())
    except ValueError as error:
        raise ValueError(f"{options.table}: {error}") from error
    return bubble_figure(metric, bubbles)
