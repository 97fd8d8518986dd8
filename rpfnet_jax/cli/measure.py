"""`rpfnet metrics`, `compare` and `psd`: commands that measure fused images."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rpfnet_jax.cli.arguments import (
    add_json,
    add_scaling,
    add_table,
    add_workers,
    check_figure_name,
    named_path,
    print_json,
    scalings_of,
    table_format,
    triples_of,
    unique,
    user_path,
    write_figure,
    write_tables,
)
from rpfnet_jax.data.pairs import PairError, Triple, check_triples, find_triples, match_triples, natural_key
from rpfnet_jax.data.thermal import FULL, ThermalScaling, read_levels
from rpfnet_jax.files import itemised, read_text, write_atomically
from rpfnet_jax.measuring import measure_triples, workers_for
from rpfnet_jax.metrics import (
    PROTOCOLS,
    columns_of,
    log_spectrum,
    mean_interval,
    radial_profile,
    spectral_entropy,
    spectral_fidelity,
    summarise,
    to_gray8,
)
from rpfnet_jax.reports import (
    PAPER_METRICS,
    Column,
    Table,
    metrics_csv,
    ranking_table,
    read_metrics_csv,
    spectra_figure,
    summary_table,
    versus_table,
)
from rpfnet_jax.runtime import require

Rows = Mapping[str, Mapping[str, float]]


def _measure(triples: Sequence[Triple], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    workers, scaling = options.workers or workers_for(len(triples)), scalings_of(options)
    return measure_triples([t._replace(scaling=scaling) for t in triples], workers, progress=sys.stderr.isatty())


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """rpfnet metrics --fused=fused/ --ir=ir/ --vis=vis/ --csv=metrics.csv

    The three folders hold files of the same stem; extensions may differ. Colour images are scored on their grey
    conversion. Nothing is resized: images that differ in size, can't be read or are missing are all named, and nothing
    is measured.
    """
    for side, images in (("fused", "fused images"), ("ir", "infrared sources"), ("vis", "visible sources")):
        parser.add_argument(f"--{side}", type=user_path, required=True, metavar="DIR", help=f"folder of the {images}")
    parser.add_argument(
        "--protocol",
        choices=(*PROTOCOLS, "both"),
        default="both",
        help="floating point, or the 8-bit arithmetic of MATLAB that papers print (default: %(default)s)",
    )
    parser.add_argument("--csv", type=user_path, metavar="FILE", help="write the values of each image")
    parser.add_argument(
        "--partial", action="store_true", help="measure the images that all three folders have and list the others"
    )
    add_json(parser)
    add_scaling(parser)
    add_workers(parser)
    parser.set_defaults(run=_metrics)


def _metrics(options: argparse.Namespace) -> None:
    if options.csv is not None and options.csv.is_dir():
        raise ValueError(f"{options.csv} is a folder; --csv needs the name of a file")
    folders = (options.fused, options.ir, options.vis)
    triples = _partial_triples(*folders) if options.partial else find_triples(*folders)
    columns = columns_of(options.protocol)
    measured = _measure(triples, options)
    rows = {name: {column: row[column] for column in columns} for name, row in measured.items()}
    if options.csv is not None:
        write_atomically(options.csv, os.fsencode(metrics_csv(rows)))  # Names of files need not be text.
    if options.json:
        print_json({"fused": str(options.fused), "images": len(rows), "metrics": _summary_record(rows)})
    else:
        print(f"{options.fused}: {len(rows)} images\n\n{summary_table(rows)}")


def _summary_record(rows: Rows) -> dict[str, dict[str, object]]:
    """Returns column -> mean, deviation, 95 % interval of the mean, and the number of images it is defined on."""
    return {
        column: {
            "mean": value.mean,
            "std": value.std,
            "interval": mean_interval([row[column] for row in rows.values()]),
            "images": value.count,
        }
        for column, value in summarise(rows.values()).items()
    }


def _partial_triples(fused: Path, ir: Path, vis: Path) -> list[Triple]:
    triples, alone = match_triples(fused, ir, vis)
    if not triples:
        raise PairError(f"{fused}, {ir} and {vis} have no images of the same name")
    for line in alone:
        print(f"left out: {line}", file=sys.stderr)
    return triples


def add_compare(parser: argparse.ArgumentParser) -> None:
    """rpfnet compare --ir=ir/ --vis=vis/ RPFNet=fused/ TarDAL=other/ --versus RPFNet TarDAL

    A method is a folder of fused images, named like their sources, or a CSV file written by `rpfnet metrics` or `rpfnet
    evaluate`. All must have the same images. A table uses one protocol: `standard` is floating point, `paper` the
    saturating 8-bit arithmetic behind the numbers that papers of this field print.
    """
    parser.add_argument(
        "methods", type=named_path, nargs="+", metavar="NAME=PATH", help="folder of fused images, or CSV of metrics"
    )
    parser.add_argument("--ir", type=user_path, metavar="DIR", help="infrared images; not needed for CSV files")
    parser.add_argument("--vis", type=user_path, metavar="DIR", help="visible images")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="standard", help="default: %(default)s")
    parser.add_argument(
        "--metrics", nargs="+", default=PAPER_METRICS, metavar="M", help="columns to rank by (default: the paper's six)"
    )
    parser.add_argument("--versus", nargs=2, metavar=("A", "B"), help="paired bootstrap of two methods")
    parser.add_argument("--partial", action="store_true", help="measure the images that all methods have")
    add_json(parser)
    add_scaling(parser)
    add_table(parser)
    add_workers(parser)
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    methods = unique(options.methods)
    if options.json and (options.format or options.out):
        raise ValueError("--json prints all there is; it has no use with --format or --out")
    if options.versus:
        unknown = [name for name in options.versus if name not in methods]
        if unknown:
            raise ValueError(f"--versus: {unknown[0]} is none of {', '.join(methods)}")
        if table_format(options) == "csv":
            raise ValueError("--versus adds a second table, which a CSV file can't hold; choose another --format")
    rows = _measured(methods, options)
    summaries = {name: summarise(values.values()) for name, values in rows.items()}
    tables = [ranking_table(summaries, options.protocol, options.metrics)]
    if options.versus:
        a, b = ((name, rows[name]) for name in options.versus)
        tables.append(versus_table(a, b, options.protocol, options.metrics))
    if options.json:
        print_json(dict(zip(("ranking", "versus"), (table.record() for table in tables), strict=False)))
    else:
        write_tables(tables, options)


def _measured(methods: Mapping[str, Path], options: argparse.Namespace) -> dict[str, Rows]:
    """Returns method -> image -> row, with the same images for all methods."""
    tables = {name: _read(path) for name, path in methods.items() if path.suffix.lower() == ".csv"}
    folders = {name: path for name, path in methods.items() if name not in tables}
    if folders and (options.ir is None or options.vis is None):
        raise ValueError(f"--ir and --vis are needed to measure {', '.join(folders)}")
    find = (lambda *paths: match_triples(*paths).triples) if options.partial else find_triples
    triples = {name: {t.name: t for t in find(path, options.ir, options.vis)} for name, path in folders.items()}
    shared = _shared({name: {**tables, **triples}[name] for name in methods}, options.partial)
    measured = {name: _measure([found[image] for image in shared], options) for name, found in triples.items()}
    return {name: measured.get(name) or {image: tables[name][image] for image in shared} for name in methods}


def _read(path: Path) -> Rows:
    try:
        return read_metrics_csv(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path}: not a table of metrics per image: {error}") from error


def _shared(methods: Mapping[str, Mapping[str, object]], partial: bool) -> list[str]:
    """Returns the images that all methods have, in natural order; others are an error unless `partial` is True."""
    everything = sorted({image for found in methods.values() for image in found}, key=natural_key)
    lacking = {image: [name for name, found in methods.items() if image not in found] for image in everything}
    alone = [f"{image}: not in {', '.join(names)}" for image, names in lacking.items() if names]
    if alone and not partial:
        raise ValueError(itemised(f"{len(alone)} image(s) that not all methods have (--partial omits them):", alone))
    shared = [image for image, names in lacking.items() if not names]
    if not shared:
        raise ValueError(f"{', '.join(methods)} have no image in common")
    return shared


# Cells of the spectra in the figure: small enough for print, and a common size to average over images.
_CELLS = 128
_PSD_COLUMNS = (Column("spectral entropy"), Column("infrared fidelity"), Column("visible fidelity"))


def add_psd(parser: argparse.ArgumentParser) -> None:
    """rpfnet psd --ir=ir.png --vis=vis.png RPFNet=fused.png TarDAL=other.png --figure=psd.png

    Takes one image each, or folders of the same names, over which everything is averaged. The paper (Figure 6) prints
    no formulas; these are this project's own. PSD = |FFT2(F - mean F)|^2 of grey levels; spectral entropy in bits;
    fidelity = Pearson correlation of log10(1 + PSD) of the fused image and of a source, over all frequencies but zero.
    """
    parser.add_argument("methods", type=named_path, nargs="+", metavar="NAME=PATH", help="fused image, or folder")
    parser.add_argument("--ir", type=user_path, required=True, help="infrared image or folder")
    parser.add_argument("--vis", type=user_path, required=True, help="visible image or folder")
    parser.add_argument(
        "--figure", type=user_path, metavar="FILE", help="also draw spectra and profiles (.png or .pdf)"
    )
    parser.add_argument("--dpi", type=int, default=300, help="of the figure (default: %(default)s)")
    add_scaling(parser)
    add_table(parser)
    parser.set_defaults(run=_psd)


def _psd(options: argparse.Namespace) -> None:
    methods = unique(options.methods)
    if options.figure is not None:
        check_figure_name(options.figure)
        require("report")
    reserved = [name for name in methods if name in ("IR", "VIS")]
    if reserved:
        raise ValueError(f"{reserved[0]} is the name of a source; call the method something else")
    scaling = scalings_of(options)
    triples = {
        name: [triple._replace(scaling=scaling) for triple in triples_of(path, options.ir, options.vis)]
        for name, path in methods.items()
    }
    sizes = [size for found in triples.values() for size in check_triples(found)]
    first = next(iter(triples.values()))
    images = {"IR": [(t.ir, scaling.ir) for t in first], "VIS": [(t.vis, scaling.vis) for t in first]}
    images |= {name: [(t.fused, FULL) for t in found] for name, found in triples.items()}
    rows: dict[str, list[float | str | None]] = {}
    for name in ("IR", "VIS"):
        # As text, so that a source is never marked as the best.
        rows[name] = [f"{np.mean([spectral_entropy(_gray(*image)) for image in images[name]]):.3f}", None, None]
    rows |= {name: _psd_scores(found) for name, found in triples.items()}
    note = "Definitions of this project. Pearson correlation of log spectra; entropy of PSD in bits."
    table = Table(_PSD_COLUMNS, rows, {"images": str(len(first))}, note)
    if options.figure is not None:
        cells = min(_CELLS, *(side for size in sizes for side in size))
        spectra = {
            name: np.mean([log_spectrum(_gray(*image), cells) for image in found], axis=0)
            for name, found in images.items()
        }
        profiles = {name: _mean_profile(found) for name, found in images.items()}
        write_figure(options.figure, spectra_figure(spectra, profiles), options.dpi)
    write_tables([table], options)


def _gray(path: Path, scaling: ThermalScaling) -> np.ndarray:
    return to_gray8(read_levels(path, scaling))


def _psd_scores(triples: Sequence[Triple]) -> list[float | str | None]:
    """Returns the means over the images, in the order of `_PSD_COLUMNS`."""
    scores = []
    for triple in triples:
        scaling = triple.scaling
        fused, ir, vis = _gray(triple.fused, FULL), _gray(triple.ir, scaling.ir), _gray(triple.vis, scaling.vis)
        scores.append((spectral_entropy(fused), spectral_fidelity(fused, ir), spectral_fidelity(fused, vis)))
    return [float(mean) for mean in np.mean(scores, axis=0)]


def _mean_profile(images: Sequence[tuple[Path, ThermalScaling]]) -> np.ndarray:
    """Averages radial profiles; each ring over the images that have frequencies there."""
    profiles = np.array([radial_profile(_gray(*image)) for image in images])
    defined = np.isfinite(profiles)
    counts = defined.sum(axis=0)
    return np.where(counts > 0, np.where(defined, profiles, 0).sum(axis=0) / np.maximum(counts, 1), np.nan)
