"""`rpfnet data`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rpfnet_jax.cli.arguments import user_path
from rpfnet_jax.data import sets


def add_data(parser: argparse.ArgumentParser) -> None:
    """rpfnet data flir [--out=data/flir] [--from=DIR_OR_ARCHIVE]

    Downloads the 180 training and 40 test pairs of FLIR (RoadScene) in the paper's split from a pinned commit of
    github.com/Zhaozixiang1228/IVIF-DIDFuse, verifies their checksums, and arranges them as {train,val}/{ir,vis}. An
    interrupted download is resumed. With --from the images come from a clone or archive of that repository instead.
    """
    parser.add_argument("name", choices=("flir",), metavar="NAME", help="the data set: flir")
    parser.add_argument("--out", type=user_path, metavar="DIR", help="where to put it (default: data/NAME)")
    parser.add_argument(
        "--from",
        type=user_path,
        dest="source",
        metavar="PATH",
        help="a clone or archive of the repository (no download)",
    )
    parser.set_defaults(run=_fetch)


def _fetch(options: argparse.Namespace) -> None:
    target = options.out or Path("data") / options.name
    fetched = sets.fetch_flir(target, options.source)
    print(f"{target}: 180 training and 40 validation pairs, {fetched.new} files new, {fetched.kept} already there")
    print(sets.FLIR_LICENSE)
