"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rpfnet_jax.data.pairs import PairError, Triple, find_triples
from rpfnet_jax.files import write_atomically
from rpfnet_jax.reports import FIGURE_FORMATS, Format, Table, encode


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


_TABLES: dict[str, Format] = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


def table_format(form: Format | None, out: Path | None) -> Format:
    """The format asked for, or what the file's suffix says, or terminal."""
    return form or _TABLES.get(out.suffix.lower() if out else "", "terminal")


def write_tables(tables: Sequence[Table], form: Format | None, out: Path | None) -> None:
    """Prints tables, or writes them into a file and prints its name."""
    text = "\n\n".join(table.render(table_format(form, out)) for table in tables) + "\n"
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text.encode())
        print(out)


def check_figure_name(out: Path) -> str:
    """The format that a figure's suffix names.

    Raises:
        ValueError: it names none.
    """
    form = out.suffix.lower().lstrip(".")
    if form not in FIGURE_FORMATS:
        raise ValueError(f"{out}: the name must end in {' or '.join(f'.{known}' for known in FIGURE_FORMATS)}")
    return form


def write_figure(out: Path, figure: Any, dpi: int) -> None:
    """Writes a figure and prints the file's name.

    Raises:
        ValueError: the suffix names no format, or an absurd resolution.
    """
    write_atomically(out, encode(figure, check_figure_name(out), dpi))
    print(out)
