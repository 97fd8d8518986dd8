"""Measure fused pictures, whoever made them, against their sources.

    rpfnet metrics --fused=fused/ --ir=ir/ --vis=vis/ --csv=metrics.csv

The three folders hold files of the same stem; extensions may differ. Colour pictures are scored on their grey
conversion. Nothing is resized: where pictures differ in size, can't be read or are missing, all of them are named and
nothing is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rpfnet_jax.cli.arguments import add_workers
from rpfnet_jax.data.pairs import PairError, Triple, find_triples, match_triples
from rpfnet_jax.files import write_atomically
from rpfnet_jax.metrics import columns_of
from rpfnet_jax.pipeline import measure_triples, workers_for
from rpfnet_jax.reports import metrics_csv, summary_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for side, pictures in (("fused", "fused pictures"), ("ir", "infrared sources"), ("vis", "visible sources")):
        parser.add_argument(f"--{side}", type=Path, required=True, metavar="DIR", help=f"folder of the {pictures}")
    parser.add_argument(
        "--protocol",
        choices=("standard", "paper", "both"),
        default="both",
        help="floating point, or the 8-bit arithmetic of MATLAB that papers print (default: %(default)s)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the values of each picture")
    parser.add_argument(
        "--partial", action="store_true", help="measure what all three folders have, and list the rest; else an error"
    )
    add_workers(parser)


def run(options: argparse.Namespace) -> None:
    """Raises PairError when the pictures are not usable."""
    if options.csv is not None and options.csv.is_dir():
        raise ValueError(f"{options.csv} is a folder; --csv wants the name of a file")
    folders = (options.fused, options.ir, options.vis)
    triples = _partial_triples(*folders) if options.partial else find_triples(*folders)
    workers = options.workers or workers_for(len(triples))
    measured = measure_triples(triples, workers, progress=sys.stderr.isatty())
    columns = columns_of(options.protocol)
    rows = {name: {column: row[column] for column in columns} for name, row in measured.items()}
    if options.csv is not None:
        write_atomically(options.csv, os.fsencode(metrics_csv(rows)))  # Names of files need not be text.
    print(f"{options.fused}: {len(rows)} pictures\n\n{summary_table(rows)}")


def _partial_triples(fused: Path, ir: Path, vis: Path) -> list[Triple]:
    triples, alone = match_triples(fused, ir, vis)
    if not triples:
        raise PairError(f"{fused}, {ir} and {vis} have no pictures of the same name")
    for line in alone:
        print(f"left out: {line}", file=sys.stderr)
    return triples
