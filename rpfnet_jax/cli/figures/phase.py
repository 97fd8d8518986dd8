"""What phase carries: a small change of it is felt in every pixel, and it holds the structure (the paper's Figure 1c).

rpfnet figure phase --ir=ir.png --vis=vis.png --out=phase.pdf
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rpfnet_jax.data.images import read_gray
from rpfnet_jax.reports import Window, phase_figure

_WINDOW = Window()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ir", type=Path, required=True, help="infrared picture")
    parser.add_argument("--vis", type=Path, required=True, help="visible picture")
    parser.add_argument(
        "--window",
        type=float,
        nargs=3,
        default=tuple(_WINDOW),
        metavar=("FY", "FX", "SIDE"),
        help="where the phase is set to 0: centre and side in cycles per pixel (default: {} {} {})".format(*_WINDOW),
    )


def draw(options: argparse.Namespace) -> Any:
    ir, vis = read_gray(options.ir), read_gray(options.vis)
    if ir.shape != vis.shape:
        raise ValueError(f"{options.ir} has the size {ir.shape}, {options.vis} {vis.shape}")
    return phase_figure(ir, vis, Window(*options.window))
