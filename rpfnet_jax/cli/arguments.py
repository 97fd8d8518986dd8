"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rpfnet_jax.data.pairs import PairError
from rpfnet_jax.data.triples import Triple, find_triples


class NamedPath(NamedTuple):
    """NAME=PATH of a command line."""

    name: str
    path: Path


def named_path(text: str) -> NamedPath:
    """Type of an argument NAME=PATH."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"must be NAME=PATH, got {text!r}")
    return NamedPath(name, Path(path).expanduser())


def unique(named: Iterable[NamedPath]) -> dict[str, Path]:
    """Name -> path.

    Raises:
        ValueError: a name is there twice, or a path does not exist.
    """
    paths: dict[str, Path] = {}
    for name, path in named:
        if name in paths:
            raise ValueError(f"two methods are called {name}")
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder (of {name})")
        paths[name] = path
    return paths


def triples_of(fused: Path, ir: Path, vis: Path) -> list[Triple]:
    """One triple of three files, or those of three folders.

    Raises:
        PairError: folders and files are mixed, or see `find_triples`.
    """
    if fused.is_file() and ir.is_file() and vis.is_file():
        return [Triple(vis.stem, fused, ir, vis)]
    if any(path.is_file() for path in (fused, ir, vis)):
        raise PairError(f"{fused}, {ir} and {vis}: give three files or three folders")
    return find_triples(fused, ir, vis)


def add_weights(parser: argparse._ActionsContainer) -> None:
    """`--weights`; None: the best that come with the package."""
    parser.add_argument(
        "--weights",
        metavar="W",
        help="a shipped name, a .safetensors or .pth file, or the workdir of a training (default: the best shipped)",
    )


def count(text: str) -> int:
    """Type of an argument that is a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """`--workers`: into how many processes measuring is spread; see `rpfnet_jax.evaluation.workers_for`."""
    parser.add_argument(
        "--workers", type=count, metavar="N", help="processes (default: one per core, one for a few pictures)"
    )
