"""Compare power spectra: spectral entropy, infrared and visible fidelity, and a figure of the spectra.

    rpfnet psd --ir=ir.png --vis=vis.png RPFNet=fused.png TarDAL=other.png --figure=psd.png

One picture each, or folders of the same names, over which everything is averaged. The paper (Figure 6) prints no
formulas; these are this project's own. PSD = |FFT2(F - mean F)|^2 of grey levels; spectral entropy in bits; fidelity =
Pearson correlation of log10(1 + PSD) of the fused picture and of a source, over all frequencies but zero.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rpfnet_jax.cli.arguments import check_figure_name, named_path, triples_of, unique, write_figure, write_tables
from rpfnet_jax.data.images import read_image
from rpfnet_jax.data.pairs import Triple, check_triples
from rpfnet_jax.metrics import log_spectrum, radial_profile, spectral_entropy, spectral_fidelity, to_gray8
from rpfnet_jax.reports import FORMATS, Column, Table, spectra_figure

# Cells of the spectra in the figure; small enough for print, and so that sizes can be averaged.
_CELLS = 128
_COLUMNS = (Column("spectral entropy"), Column("infrared fidelity"), Column("visible fidelity"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("methods", type=named_path, nargs="+", metavar="NAME=PATH", help="fused picture, or folder")
    parser.add_argument("--ir", type=Path, required=True, help="infrared picture or folder")
    parser.add_argument("--vis", type=Path, required=True, help="visible picture or folder")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw spectra and profiles (.png or .pdf)")
    parser.add_argument("--dpi", type=int, default=300, help="of the figure (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, help="default: what the suffix of --out says, or terminal")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there instead of printing it")


def run(options: argparse.Namespace) -> None:
    methods = unique(options.methods)
    if options.figure is not None:
        check_figure_name(options.figure)
    reserved = [name for name in methods if name in ("IR", "VIS")]
    if reserved:
        raise ValueError(f"{reserved[0]} is the name of a source; call the method something else")
    triples = {name: triples_of(path, options.ir, options.vis) for name, path in methods.items()}
    sizes = [size for found in triples.values() for size in check_triples(found)]
    first = next(iter(triples.values()))
    pictures: dict[str, Sequence[Path]] = {"IR": [t.ir for t in first], "VIS": [t.vis for t in first]}
    pictures |= {name: [t.fused for t in found] for name, found in triples.items()}
    rows: dict[str, list[float | str | None]] = {}
    for name, paths in pictures.items():
        # As text, so that a source is never marked as the best.
        entropy = np.mean([spectral_entropy(_gray(path)) for path in paths])
        rows[name] = [f"{entropy:.3f}", None, None]
    rows |= {name: _scores(found) for name, found in triples.items()}
    note = "Definitions of this project. Pearson correlation of log spectra; entropy of PSD in bits."
    table = Table(_COLUMNS, rows, {"pictures": str(len(first))}, note)
    if options.figure is not None:
        cells = min(_CELLS, *(side for size in sizes for side in size))
        write_figure(
            options.figure,
            spectra_figure(
                {
                    name: np.mean([log_spectrum(_gray(p), cells) for p in paths], axis=0)
                    for name, paths in pictures.items()
                },
                {name: _profile(paths) for name, paths in pictures.items()},
            ),
            options.dpi,
        )
    write_tables([table], options.format, options.out)


def _gray(path: Path) -> np.ndarray:
    return to_gray8(read_image(path))


def _scores(triples: Sequence[Triple]) -> list[float | str | None]:
    scores = []
    for triple in triples:
        fused, ir, vis = (_gray(path) for path in (triple.fused, triple.ir, triple.vis))
        scores.append((spectral_entropy(fused), spectral_fidelity(fused, ir), spectral_fidelity(fused, vis)))
    return [float(mean) for mean in np.mean(scores, axis=0)]


def _profile(paths: Sequence[Path]) -> np.ndarray:
    """The mean over the pictures, in each ring over those that have frequencies there."""
    profiles = np.array([radial_profile(_gray(path)) for path in paths])
    defined = np.isfinite(profiles)
    counts = defined.sum(axis=0)
    return np.where(counts > 0, np.where(defined, profiles, 0).sum(axis=0) / np.maximum(counts, 1), np.nan)
