"""`rpfnet figure KIND`, the paper's figures, and `rpfnet strip`."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.cli.arguments import (
    add_norm,
    add_pair,
    add_weights,
    check_figure_name,
    count,
    named_path,
    refuse_overwriting_file,
    triples_of,
    unique,
    user_path,
    write_figure,
)
from rpfnet_jax.data.images import read_gray, read_image, write_png
from rpfnet_jax.data.pairs import Pair, match_pairs
from rpfnet_jax.files import read_text
from rpfnet_jax.inference import BaselineFuser, ImageFuser, load
from rpfnet_jax.losses import LossConfig, adaptive_weight, texture_mask, thermal_mask
from rpfnet_jax.reports import (
    Box,
    Window,
    bubble_figure,
    contact_sheet,
    curves_figure,
    features_figure,
    panel_figure,
    phase_figure,
    read_bubbles,
    weights_figure,
)
from rpfnet_jax.runtime import require
from rpfnet_jax.scenes import KINDS, write_scenes
from rpfnet_jax.training.monitor import read_scalars
from rpfnet_jax.weights.store import listing


def add_figure(parser: argparse.ArgumentParser) -> None:
    """rpfnet figure KIND --help

    Needs the extra `report`. Equal input gives equal bytes.
    """
    kinds = parser.add_subparsers(title="kinds", required=True, metavar="KIND")
    for name, (add_arguments, draw) in _KINDS.items():
        description = inspect.cleandoc(str(add_arguments.__doc__))
        kind = kinds.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(kind)
        kind.add_argument("--out", type=user_path, required=True, metavar="FILE", help="figure to write, .png or .pdf")
        kind.add_argument("--dpi", type=int, default=300, help="pixels per inch (default: %(default)s)")
        kind.set_defaults(run=_write, draw=draw)


def _write(options: argparse.Namespace) -> None:
    check_figure_name(options.out)
    require("report")
    write_figure(options.out, options.draw(options), options.dpi)


_ROW = re.compile(r"(?P<name>.+?)(?P<boxes>(:\d+,\d+,\d+,\d+)*)")


class _Row(NamedTuple):
    name: str
    boxes: list[Box]


def _add_panel(parser: argparse.ArgumentParser) -> None:
    """Sources and methods side by side, details enlarged in red boxes (the paper's Figures 4, 5 and 8).

    rpfnet figure panel --ir=ir/ --vis=vis/ RPFNet=fused/ TarDAL=other/ --row 01:200,120,60,50 --row 07 --out=panel.pdf
    """
    parser.add_argument("methods", type=named_path, nargs="+", metavar="NAME=DIR", help="folders of fused images")
    parser.add_argument("--ir", type=user_path, required=True, metavar="DIR", help="infrared images")
    parser.add_argument("--vis", type=user_path, required=True, metavar="DIR", help="visible images")
    parser.add_argument(
        "--row",
        type=_row,
        action="append",
        required=True,
        metavar="IMAGE[:X,Y,W,H]",
        help="a row: name without suffix, and details to enlarge, in pixels from the upper left; may be repeated",
    )
    parser.add_argument("--width", type=float, default=1.4, help="of an image in inches (default: %(default)s)")


def _row(text: str) -> _Row:
    matched = _ROW.fullmatch(text)
    if matched is None:
        raise argparse.ArgumentTypeError(f"must be IMAGE or IMAGE:X,Y,W,H, got {text!r}")
    boxes = matched["boxes"].split(":")[1:]
    return _Row(matched["name"], [Box(*map(int, box.split(","))) for box in boxes])


def _draw_panel(options: argparse.Namespace) -> Any:
    if not 0.3 <= options.width <= 20:
        raise ValueError(f"--width must be from 0.3 to 20 inches, got {options.width}")
    methods = unique(options.methods)
    found = {
        method: {triple.name: triple for triple in triples_of(path, options.ir, options.vis)}
        for method, path in methods.items()
    }
    rows = {}
    for row in options.row:
        for method, named in found.items():
            if row.name not in named:
                raise ValueError(f"{row.name} is not in {methods[method]}")
        triples = [named[row.name] for named in found.values()]
        paths = [triples[0].ir, triples[0].vis, *(triple.fused for triple in triples)]
        rows[row.name] = [read_image(path) for path in paths]
    boxes = {row.name: row.boxes for row in options.row}
    return panel_figure(rows, ["IR", "VIS", *methods], boxes, options.width)


def _add_gallery(parser: argparse.ArgumentParser) -> None:
    """Pairs fused by several networks and classical methods, side by side; without folders, of the embedded scenes.

    rpfnet figure gallery ours=flir_plus authors=Model.pth laplacian=laplacian --out=gallery.png
    rpfnet figure gallery ours=flir_plus mine=RUNS/mine --ir=ir/ --vis=vis/ --row 01 --row 07 --out=gallery.png

    `figure panel` shows images that are fused already.
    """
    parser.add_argument(
        "methods",
        type=named_path,
        nargs="+",
        metavar="NAME=METHOD",
        help=f"weights (a shipped name, a file, a workdir) or a classical method ({', '.join(BASELINES)})",
    )
    parser.add_argument("--ir", type=user_path, metavar="DIR", help="infrared images (default: embedded scenes)")
    parser.add_argument("--vis", type=user_path, metavar="DIR", help="visible images")
    parser.add_argument(
        "--row", action="append", metavar="IMAGE", help="name of a pair; may be repeated (default: the first four)"
    )
    parser.add_argument("--seed", type=int, help="seed of the embedded scenes (default: 0)")
    parser.add_argument("--width", type=float, default=1.8, help="of an image in inches (default: %(default)s)")


def _draw_gallery(options: argparse.Namespace) -> Any:
    if (options.ir is None) != (options.vis is None):
        raise ValueError("--ir and --vis are needed together")
    if options.ir is not None and options.seed is not None:
        raise ValueError("--seed has no use with --ir and --vis")
    if len({named.name for named in options.methods}) < len(options.methods):
        raise ValueError("two methods have the same name")
    methods = {named.name: _method(str(named.path)) for named in options.methods}
    if options.ir is not None:
        return _gallery(match_pairs(options.ir, options.vis).pairs, methods, options)
    with tempfile.TemporaryDirectory(prefix="rpfnet-") as folder:
        pairs = write_scenes(folder, len(KINDS), options.seed or 0)
        return _gallery([dataclasses.replace(p, name=k) for p, k in zip(pairs, KINDS, strict=True)], methods, options)


def _method(source: str) -> ImageFuser:
    return BaselineFuser(source) if source in BASELINES else load(source)


def _gallery(pairs: Sequence[Pair], methods: dict[str, ImageFuser], options: argparse.Namespace) -> Any:
    named = {pair.name: pair for pair in pairs}
    unknown = [name for name in options.row or () if name not in named]
    if unknown:
        raise ValueError(f"there is no pair {unknown[0]}; there are {listing(list(named))}")
    rows = {}
    for name in options.row or list(named)[:4]:
        sources = named[name].ir, named[name].vis
        rows[name] = [*map(read_image, sources), *(net.fuse(*sources) for net in methods.values())]
    return panel_figure(rows, ["IR", "VIS", *methods], cell_width=options.width)


_MAPS = {
    "promoted_residual": "promoted residual, Eq. 1",
    "residual": "residual (RPM), Eq. 3",
    "promoted_fusion": "promoted fusion, Eq. 2",
    "fusion": "fusion (FDFM), Eq. 4",
}


def _add_features(parser: argparse.ArgumentParser) -> None:
    """Feature maps of every stage, averaged over the channels (the paper's Figure 3).

    rpfnet figure features --weights=W.safetensors --ir=ir.png --vis=vis.png --out=features.pdf
    """
    add_weights(parser)
    add_pair(parser)
    add_norm(parser)


def _draw_features(options: argparse.Namespace) -> Any:
    net = load(options.weights, options.norm)
    ir, vis = read_gray(options.ir), read_gray(options.vis)
    stages = [
        {title: np.asarray(getattr(stage, field)[0]).mean(axis=-1) for field, title in _MAPS.items()}
        for stage in net.features(ir, vis)
    ]
    # M = IR - VIS, from -255 to 255, shown from black to white.
    residual = np.rint((ir.astype(np.float64) - vis + 255) / 2).astype(np.uint8)
    images = {"IR": ir, "VIS_Y": vis, "M = IR - VIS_Y": residual, "fused": net.fuse(ir, vis)}
    return features_figure(images, stages)


def _read_gray_pair(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    ir, vis = read_gray(options.ir), read_gray(options.vis)
    if ir.shape != vis.shape:
        raise ValueError(f"{options.ir} has the size {ir.shape}, {options.vis} {vis.shape}")
    return ir, vis


def _add_weights_figure(parser: argparse.ArgumentParser) -> None:
    """The adaptive weights w and 1 - w (Eq. 9) and the masks of thermal targets (Eq. 7) and texture (Eq. 6) of a pair.

    rpfnet figure weights --ir=ir.png --vis=vis.png --out=weights.pdf
    """
    add_pair(parser)
    parser.add_argument("--reading", choices=("paper", "released"), default="paper", help="default: %(default)s")
    parser.add_argument(
        "--signs",
        choices=("plus", "printed"),
        default="plus",
        help="signs in S_en of Eq. 9: corrected (default), or as printed in the paper, which omits the hot pixels",
    )


def _draw_weights(options: argparse.Namespace) -> Any:
    ir, vis = _read_gray_pair(options)
    config = LossConfig.preset(options.reading, weight_signs=options.signs)
    inputs = [jnp.asarray(side[None, ..., None], jnp.float32) / 255 for side in (ir, vis)]
    weight = np.asarray(adaptive_weight(inputs[0], inputs[1], config))[0, ..., 0]
    thermal = np.asarray(thermal_mask(inputs[0], config))[0, ..., 0]
    texture = np.asarray(texture_mask(inputs[1], config))[0, ..., 0]
    difference = np.abs(ir.astype(np.int16) - vis).astype(np.uint8)
    # The image that D_pos of Eq. 11 pulls the fused image towards.
    target = np.where(weight > 0, ir, vis)
    return weights_figure(
        {"IR": ir, "VIS_Y": vis, "|IR - VIS_Y|": difference, "IR w + VIS_Y (1 - w)": target},
        {"w, Eq. 9": weight, "1 - w": 1 - weight, "T(IR), Eq. 7": thermal, "m(VIS_Y), Eq. 6": texture},
    )


_WINDOW = Window()


def _add_phase(parser: argparse.ArgumentParser) -> None:
    """Effects of phase: a small change of it alters every pixel, and it carries the structure (the paper's Figure 1c).

    rpfnet figure phase --ir=ir.png --vis=vis.png --out=phase.pdf
    """
    add_pair(parser)
    parser.add_argument(
        "--window",
        type=float,
        nargs=3,
        default=tuple(_WINDOW),
        metavar=("FY", "FX", "SIDE"),
        help="where the phase is set to 0: centre and side in cycles per pixel (default: {} {} {})".format(*_WINDOW),
    )


def _draw_phase(options: argparse.Namespace) -> Any:
    return phase_figure(*_read_gray_pair(options), Window(*options.window))


def _add_bubbles(parser: argparse.ArgumentParser) -> None:
    """A metric against parameters and FLOPs, from a CSV file (the paper's Figure 1b).

        rpfnet figure bubbles methods.csv --out=cost.pdf

    The columns are name, the metric (under its own name), parameters and gflops; `rpfnet cost` counts the last two.
    """
    parser.add_argument("table", type=user_path, metavar="CSV", help="one row per method")


def _draw_bubbles(options: argparse.Namespace) -> Any:
    try:
        metric, bubbles = read_bubbles(read_text(options.table))
    except ValueError as error:
        raise ValueError(f"{options.table}: {error}") from error
    return bubble_figure(metric, bubbles)


_PREFIX = "train/"
# Measures of the machine, not of the network.
_OMITTED = ("images_per_second",)


def _add_curves(parser: argparse.ArgumentParser) -> None:
    """The terms of the loss over the steps of one training run or several.

    rpfnet figure curves mine=RUNS/mine --out=curves.pdf
    """
    parser.add_argument("runs", type=named_path, nargs="+", metavar="NAME=WORKDIR", help="workdirs of training runs")
    parser.add_argument("--terms", nargs="+", metavar="TERM", help="only these, such as total (default: all)")
    parser.add_argument("--window", type=count, default=25, help="steps of the running mean (default: %(default)s)")


def _draw_curves(options: argparse.Namespace) -> Any:
    runs = {}
    for name, workdir in unique(options.runs).items():
        scalars = {tag.removeprefix(_PREFIX): v for tag, v in read_scalars(workdir).items() if tag.startswith(_PREFIX)}
        terms = options.terms or [term for term in scalars if term not in _OMITTED]
        unknown = [term for term in terms if term not in scalars]
        if unknown:
            raise ValueError(f"{workdir}: no term {unknown[0]}; there are {', '.join(scalars)}")
        runs[name] = {term: scalars[term] for term in terms}
    return curves_figure(runs, options.window)


_KINDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], Any]]] = {
    "panel": (_add_panel, _draw_panel),
    "gallery": (_add_gallery, _draw_gallery),
    "features": (_add_features, _draw_features),
    "weights": (_add_weights_figure, _draw_weights),
    "phase": (_add_phase, _draw_phase),
    "bubbles": (_add_bubbles, _draw_bubbles),
    "curves": (_add_curves, _draw_curves),
}


def add_strip(parser: argparse.ArgumentParser) -> None:
    """rpfnet strip --ir=ir.png --vis=vis.png --out=strip.png

    Shows the effect of `--adapt`: 0 is `running` mode, 1 is `image` mode. Needs weights with norms and per-stage
    statistics (see `rpfnet calibrate`); the default weights of other commands have no norms.
    """
    add_weights(parser, default="flir")
    add_pair(parser)
    parser.add_argument("--out", type=user_path, required=True, metavar="PNG", help="the image to write")
    parser.add_argument(
        "--adapt", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.25, 1.0], help="strengths (default: %(default)s)"
    )
    parser.add_argument("--height", type=int, default=320, help="of each image in pixels (default: %(default)s)")
    parser.set_defaults(run=_strip)


def _strip(options: argparse.Namespace) -> None:
    if options.out.suffix.lower() != ".png":
        raise ValueError(f"{options.out}: the name must end in .png")
    refuse_overwriting_file(options.out, options.ir, options.vis)
    if options.height < 1:
        raise ValueError(f"--height must be at least 1, got {options.height}")
    net = load(options.weights)
    nets = {strength: net.using(norm="adaptive", adapt=strength) for strength in options.adapt}
    images = {"IR": read_image(options.ir), "VIS": read_image(options.vis)}
    for strength, adapted in nets.items():
        images[f"adapt {strength:g}"] = adapted.fuse(options.ir, options.vis)
    write_png(options.out, contact_sheet({options.vis.stem: list(images.values())}, list(images), options.height))
    print(options.out)
