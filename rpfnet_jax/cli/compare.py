"""Compare methods by their fused pictures: one table with ranks, and how sure a lead is.

    rpfnet compare --ir=ir/ --vis=vis/ RPFNet=fused/ TarDAL=other/ --versus RPFNet TarDAL

A method is a folder of fused pictures, named like their sources, or a CSV file that `rpfnet metrics` or
`evaluate.py` wrote. All must have the same pictures. Tables keep to one protocol: `standard` is floating point, `paper`
the saturating 8-bit arithmetic behind the numbers that papers of this field print.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from rpfnet_jax.cli.arguments import add_workers, named_path, table_format, unique, write_tables
from rpfnet_jax.data.pairs import find_triples, match_triples, natural_key
from rpfnet_jax.files import itemised
from rpfnet_jax.metrics import PROTOCOLS, summarise
from rpfnet_jax.pipeline import measure_triples, workers_for
from rpfnet_jax.reports import FORMATS, PAPER_METRICS, ranking_table, read_metrics_csv, versus_table

Rows = Mapping[str, Mapping[str, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "methods",
        type=named_path,
        nargs="+",
        metavar="NAME=PATH",
        help="folder of fused pictures, or CSV of metrics",
    )
    parser.add_argument("--ir", type=Path, metavar="DIR", help="infrared pictures; not needed for CSV files")
    parser.add_argument("--vis", type=Path, metavar="DIR", help="visible pictures")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="standard", help="default: %(default)s")
    parser.add_argument(
        "--metrics", nargs="+", default=PAPER_METRICS, metavar="M", help="columns, ranked over: default the paper's six"
    )
    parser.add_argument("--versus", nargs=2, metavar=("A", "B"), help="paired bootstrap of two methods")
    parser.add_argument("--partial", action="store_true", help="measure only what all have, instead of refusing")
    parser.add_argument("--format", choices=FORMATS, help="default: what the suffix of --out says, or terminal")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there instead of printing it")
    add_workers(parser)


def run(options: argparse.Namespace) -> None:
    methods = unique(options.methods)
    if options.versus:
        unknown = [name for name in options.versus if name not in methods]
        if unknown:
            raise ValueError(f"--versus: {unknown[0]} is none of {', '.join(methods)}")
        if table_format(options.format, options.out) == "csv":
            raise ValueError("--versus is a second table, which a CSV file has no place for; choose another --format")
    rows = _measured(methods, options)
    summaries = {name: summarise(values.values()) for name, values in rows.items()}
    tables = [ranking_table(summaries, options.protocol, options.metrics)]
    if options.versus:
        a, b = ((name, rows[name]) for name in options.versus)
        tables.append(versus_table(a, b, options.protocol, options.metrics))
    write_tables(tables, options.format, options.out)


def _measured(methods: Mapping[str, Path], options: argparse.Namespace) -> dict[str, Rows]:
    """Method -> picture -> row, the same pictures for all."""
    tables = {name: _read(path) for name, path in methods.items() if path.suffix.lower() == ".csv"}
    folders = {name: path for name, path in methods.items() if name not in tables}
    if folders and (options.ir is None or options.vis is None):
        raise ValueError(f"--ir and --vis are needed to measure {', '.join(folders)}")
    find = (lambda *paths: match_triples(*paths).triples) if options.partial else find_triples
    triples = {name: {t.name: t for t in find(path, options.ir, options.vis)} for name, path in folders.items()}
    shared = _shared({name: {**tables, **triples}[name] for name in methods}, options.partial)
    measured = {
        name: measure_triples(
            [found[picture] for picture in shared],
            options.workers or workers_for(len(shared)),
            progress=sys.stderr.isatty(),
        )
        for name, found in triples.items()
    }
    return {name: measured.get(name) or {p: tables[name][p] for p in shared} for name in methods}


def _read(path: Path) -> Rows:
    try:
        return read_metrics_csv(os.fsdecode(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path}: not a table of metrics per picture: {error}") from error


def _shared(methods: Mapping[str, Mapping[str, object]], partial: bool) -> list[str]:
    """The pictures that all methods have, in natural order; that are all there are, unless `partial` is True."""
    everything = sorted({picture for found in methods.values() for picture in found}, key=natural_key)
    lacking = {picture: [name for name, found in methods.items() if picture not in found] for picture in everything}
    alone = [f"{picture}: not in {', '.join(names)}" for picture, names in lacking.items() if names]
    if alone and not partial:
        raise ValueError(
            itemised(f"{len(alone)} picture(s) that not all methods have (--partial leaves them out):", alone)
        )
    shared = [picture for picture, names in lacking.items() if not names]
    if not shared:
        raise ValueError(f"{', '.join(methods)} have no picture in common")
    return shared
