"""Sources and methods side by side, details enlarged in red boxes (the paper's Figures 4, 5 and 8).

rpfnet figure panel --ir=ir/ --vis=vis/ RPFNet=fused/ TarDAL=other/ --row 01:200,120,60,50 --row 07 --out=panel.pdf
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rpfnet_jax.cli.arguments import named_path, triples_of, unique
from rpfnet_jax.data.images import read_image
from rpfnet_jax.data.pairs import Triple
from rpfnet_jax.reports import Box, panel_figure

_ROW = re.compile(r"(?P<name>.+?)(?P<boxes>(:\d+,\d+,\d+,\d+)*)")


class _Row(NamedTuple):
    name: str
    boxes: list[Box]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("methods", type=named_path, nargs="+", metavar="NAME=DIR", help="folders of fused pictures")
    parser.add_argument("--ir", type=Path, required=True, metavar="DIR", help="infrared pictures")
    parser.add_argument("--vis", type=Path, required=True, metavar="DIR", help="visible pictures")
    parser.add_argument(
        "--row",
        type=_row,
        action="append",
        required=True,
        metavar="PICTURE[:X,Y,W,H]",
        help="a row: name without suffix, and details to enlarge, in pixels from the upper left; may be repeated",
    )
    parser.add_argument("--width", type=float, default=1.4, help="of a picture in inches (default: %(default)s)")


def draw(options: argparse.Namespace) -> Any:
    if not 0.3 <= options.width <= 20:
        raise ValueError(f"--width must be from 0.3 to 20 inches, got {options.width}")
    methods = unique(options.methods)
    found = {
        method: {triple.name: triple for triple in triples_of(path, options.ir, options.vis)}
        for method, path in methods.items()
    }
    rows = {}
    for row in options.row:
        missing = [
            f"{row.name} is not in {methods[method]}" for method, named in found.items() if row.name not in named
        ]
        if missing:
            raise ValueError(missing[0])
        rows[row.name] = [read_image(path) for path in _paths([named[row.name] for named in found.values()])]
    boxes = {row.name: row.boxes for row in options.row}
    return panel_figure(rows, ["IR", "VIS", *methods], boxes, options.width)


def _paths(triples: Sequence[Triple]) -> list[Path]:
    return [triples[0].ir, triples[0].vis, *(triple.fused for triple in triples)]


def _row(text: str) -> _Row:
    matched = _ROW.fullmatch(text)
    if matched is None:
        raise argparse.ArgumentTypeError(f"must be PICTURE or PICTURE:X,Y,W,H, got {text!r}")
    boxes = matched["boxes"].split(":")[1:]
    return _Row(matched["name"], [Box(*map(int, box.split(","))) for box in boxes])
