"""Arguments and outputs shared by several commands."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from rpfnet_jax.data.pairs import PairError, Triple, find_triples
from rpfnet_jax.data.thermal import Scalings, ThermalScaling
from rpfnet_jax.files import write_atomically
from rpfnet_jax.ops.convolution import Precision
from rpfnet_jax.reports import FIGURE_FORMATS, FORMATS, Format, Table, encode


def expanded(text: str) -> str:
    """Parses what may be a path: `~` is the home folder, also after `=`, where shells leave it alone."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file or folder, got ''")
    # Not `Path.expanduser`, to which ~backup.png is a user whom nobody knows.
    name = os.path.expanduser(text)
    if name.split("/")[0] == "~":
        raise argparse.ArgumentTypeError(f"{text}: this user has no home folder")
    return name


def user_path(text: str) -> Path:
    """Parses the path of a file or folder; the type of every such argument."""
    return Path(expanded(text))


class NamedPath(NamedTuple):
    """NAME=PATH of a command line."""

    name: str
    path: Path


def named_path(text: str) -> NamedPath:
    """Parses an argument NAME=PATH."""
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"must be NAME=PATH, got {text!r}")
    return NamedPath(name, user_path(file))


def unique(named: Iterable[NamedPath]) -> dict[str, Path]:
    """Returns name -> path.

    Raises:
        ValueError: a name occurs twice, or a path does not exist.
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
    """Returns one triple of three files, or those of three folders.

    Raises:
        PairError: folders and files are mixed, or as `find_triples`.
    """
    if fused.is_file() and ir.is_file() and vis.is_file():
        return [Triple(vis.stem, fused, ir, vis)]
    if any(path.is_file() for path in (fused, ir, vis)):
        raise PairError(f"{fused}, {ir} and {vis}: give three files or three folders")
    return find_triples(fused, ir, vis)


def refuse_overwriting_file(out: Path, *inputs: Path) -> None:
    """Raises ValueError if the output is one of the inputs."""
    if out.resolve() in [path.resolve() for path in inputs]:
        raise ValueError(f"{out} is an input; it would be overwritten")


def count(text: str) -> int:
    """Parses a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def add_pair(parser: argparse.ArgumentParser) -> None:
    """Adds `--ir` and `--vis`, the files of one pair."""
    parser.add_argument("--ir", type=user_path, required=True, help="infrared image")
    parser.add_argument("--vis", type=user_path, required=True, help="visible image")


def add_weights(parser: argparse._ActionsContainer, default: str | None = None) -> None:
    """Adds `--weights`; None selects the best weights that come with the package."""
    parser.add_argument(
        "--weights",
        type=expanded,
        metavar="W",
        default=default,
        help="a shipped name, a .safetensors or .pth file, or the workdir of a training run "
        f"(default: {default or 'the best shipped'})",
    )


def add_norm(parser: argparse._ActionsContainer, default: str | None = None) -> None:
    """Adds `--norm`, the norm mode; None keeps the one stored with the weights."""
    parser.add_argument(
        "--norm",
        choices=("image", "running", "adaptive"),
        default=default,
        help=f"norm mode (default: {default or 'that of the weights'})",
    )


def add_adapt(parser: argparse._ActionsContainer) -> None:
    """Adds `--adapt`, the parameter of the adaptive norm mode."""
    parser.add_argument("--adapt", type=float, help="share of the image's own statistics in adaptive mode, 0 to 1")


def add_precision(parser: argparse._ActionsContainer) -> None:
    """Adds `--precision`, the rounding of what the network's convolutions multiply."""
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="of the convolutions; tf32 is faster on some NVIDIA GPUs (default: %(default)s)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Adds `--workers`, the number of processes that measure; see `rpfnet_jax.measuring.workers_for`."""
    parser.add_argument(
        "--workers", type=count, metavar="N", help="processes (default: one per core; one for a few images)"
    )


def add_scaling(parser: argparse._ActionsContainer, default: str = "full") -> None:
    """Adds `--ir-scaling` and `--vis-scaling`; `scalings_of` returns them."""
    for side, label in (("ir", "infrared"), ("vis", "visible")):
        parser.add_argument(
            f"--{side}-scaling",
            type=_scaling,
            metavar="S",
            help=f"black and white of {label} images of more than 8 bits: percentile:1,99 or range:LOW,HIGH or full "
            f"(default: {default})",
        )


def _scaling(text: str) -> ThermalScaling:
    try:
        return ThermalScaling.parse(text)
    except ValueError as error:
        # Of a ValueError argparse would not print the reason.
        raise argparse.ArgumentTypeError(str(error)) from None


def scalings_of(options: argparse.Namespace, default: Scalings = Scalings()) -> Scalings:
    """Returns what the arguments of `add_scaling` say, or the default where they are not given."""
    return Scalings(options.ir_scaling or default.ir, options.vis_scaling or default.vis)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`; `print_json` prints what it asks for."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, with all digits, instead of a table"
    )


def print_json(values: Any) -> None:
    """Prints numbers, text, lists and dicts as JSON; what is not a finite number becomes null."""
    print(json.dumps(_finite(values), indent=2, ensure_ascii=True))


def _finite(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def add_table(parser: argparse.ArgumentParser) -> None:
    """Adds `--format` and `--out` of a table."""
    parser.add_argument("--format", choices=FORMATS, help="default: given by the suffix of --out, or terminal")
    parser.add_argument(
        "--out", type=user_path, metavar="FILE", help="write the table to a file instead of printing it"
    )


_TABLES: dict[str, Format] = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


def table_format(options: argparse.Namespace) -> Format:
    """Returns the format that `--format` names, or the suffix of `--out`, or `terminal`."""
    return options.format or _TABLES.get(options.out.suffix.lower() if options.out else "", "terminal")


def write_tables(tables: Sequence[Table], options: argparse.Namespace) -> None:
    """Prints tables, or writes them to `--out` and prints the file's name."""
    text = "\n\n".join(table.render(table_format(options)) for table in tables) + "\n"
    if options.out is None:
        print(text, end="")
    else:
        write_atomically(options.out, text.encode())
        print(options.out)


def check_figure_name(out: Path) -> str:
    """Returns the format that a figure's suffix names.

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
        ValueError: the suffix names no format, or the resolution is out of range.
    """
    write_atomically(out, encode(figure, check_figure_name(out), dpi))
    print(out)
