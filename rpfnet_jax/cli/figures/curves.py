"""The terms of the loss over the steps of a training, or of several.

rpfnet figure curves mine=RUNS/mine --out=curves.pdf
"""

from __future__ import annotations

import argparse
from typing import Any

from rpfnet_jax.cli.arguments import count, named_path, unique
from rpfnet_jax.reports import curves_figure
from rpfnet_jax.training.monitor import read_scalars

_PREFIX = "train/"
# Measures of the machine, not of the network.
_LEFT_OUT = ("images_per_second",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=named_path, nargs="+", metavar="NAME=WORKDIR", help="workdirs of train.py")
    parser.add_argument("--terms", nargs="+", metavar="TERM", help="only these, such as total; default: all")
    parser.add_argument("--window", type=count, default=25, help="steps of the running mean (default: %(default)s)")


def draw(options: argparse.Namespace) -> Any:
    runs = {}
    for name, workdir in unique(options.runs).items():
        scalars = {tag.removeprefix(_PREFIX): v for tag, v in read_scalars(workdir).items() if tag.startswith(_PREFIX)}
        terms = options.terms or [term for term in scalars if term not in _LEFT_OUT]
        unknown = [term for term in terms if term not in scalars]
        if unknown:
            raise ValueError(f"{workdir}: no term {unknown[0]}; there are {', '.join(scalars)}")
        runs[name] = {term: scalars[term] for term in terms}
    return curves_figure(runs, options.window)
