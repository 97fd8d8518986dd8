"""Draw a figure of the paper: comparison panels, feature maps, weights, phase, cost, loss curves.

    rpfnet figure KIND --help

Needs the extra `report`. Equal input gives equal bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rpfnet_jax.cli.arguments import check_figure_name, write_figure
from rpfnet_jax.cli.commands import subcommands
from rpfnet_jax.cli.figures import bubbles, curves, features, panel, phase, weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for kind, subparser in subcommands(parser, (panel, features, weights, phase, bubbles, curves), "kind"):
        kind.add_arguments(subparser)
        subparser.add_argument("--out", type=Path, required=True, metavar="FILE", help="figure to write, .png or .pdf")
        subparser.add_argument("--dpi", type=int, default=300, help="pixels per inch (default: %(default)s)")
        subparser.set_defaults(draw=kind.draw)


def run(options: argparse.Namespace) -> None:
    check_figure_name(options.out)
    write_figure(options.out, options.draw(options), options.dpi)
