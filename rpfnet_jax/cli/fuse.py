"""Fuse pictures: two files, or all pairs of the same name in two folders.

    rpfnet fuse --ir=ir/ --vis=vis/ --out=fused/

Every picture is fused at its own size; colour in, colour out. Pictures that are there already are skipped. A pair that
can't be fused does not stop the others: it is reported at the end, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.cli.arguments import add_weights, count
from rpfnet_jax.data.images import SUFFIXES, check_writable, image_size
from rpfnet_jax.data.pairs import IMAGE_SUFFIXES, Pair, match_pairs, refuse_overwriting
from rpfnet_jax.data.thermal import ThermalScaling
from rpfnet_jax.files import one_line, write_atomically
from rpfnet_jax.inference import BaselineFuser, Fuser, ImageFuser
from rpfnet_jax.inference.folders import Preparation, fuse_files
from rpfnet_jax.inference.fuser import TiledFuser
from rpfnet_jax.inference.ray import check_ray, fuse_files_on_ray
from rpfnet_jax.registration import read_homography
from rpfnet_jax.weights import Weights, load_weights

NETWORK = "rpfnet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ir", type=Path, required=True, help="infrared picture, or folder of them")
    parser.add_argument(
        "--vis", type=Path, required=True, help="visible picture, or folder; the names decide the pairs"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results, made if missing"
    )

    network = parser.add_argument_group("method")
    add_weights(network)
    network.add_argument(
        "--norm", choices=("image", "running", "adaptive"), help="norm mode, instead of the weights' own"
    )
    network.add_argument("--adapt", type=float, help="share of the image's own statistics in adaptive mode, 0 to 1")
    network.add_argument("--method", choices=(NETWORK, *BASELINES), default=NETWORK, help="or a classical method")

    files = parser.add_argument_group("files")
    files.add_argument("--overwrite", action="store_true", help="fuse again what is there already")
    files.add_argument("--recursive", action="store_true", help="look into subfolders and keep their structure")
    files.add_argument("--ext", nargs="+", metavar="EXT", help="only files of these kinds, such as: png tif")
    files.add_argument("--gray", action="store_true", help="grey results, also of colour pictures")
    files.add_argument("--dtype", choices=SUFFIXES, default="uint8", help="uint8 writes PNG (default), the others TIFF")

    source = parser.add_argument_group("pictures that are not ready to be fused")
    source.add_argument(
        "--ir-scaling",
        type=_scaling,
        default=ThermalScaling("full"),
        metavar="S",
        help="grey of infrared files of more than 8 bits: percentile:1,99 or range:LOW,HIGH or full (default)",
    )
    source.add_argument("--resize-ir", action="store_true", help="scale the infrared picture to the visible one's size")
    source.add_argument(
        "--align",
        default="none",
        metavar="HOW",
        help="register first: ecc finds an affine registration; a file (.txt, .csv, .json, .npy) holds a homography, "
        "infrared to visible. Checkerboards to judge it by are saved in DIR/registration",
    )

    size = parser.add_argument_group("memory and speed")
    size.add_argument("--tile", type=int, metavar="N", help="fuse in tiles of NxN pixels, in running mode")
    size.add_argument(
        "--overlap",
        type=int,
        metavar="N",
        help="pixels that tiles share (default: 64, or a quarter of a tile if that is less)",
    )
    size.add_argument(
        "--pad-multiple", type=count, default=1, metavar="N", help="fewer sizes to compile; changes pixels"
    )
    size.add_argument("--batch-size", type=count, metavar="N", help="pictures of one size fused at once")
    size.add_argument(
        "--ray-actors",
        type=count,
        metavar="N",
        help="fuse in N processes, on this machine or on the Ray cluster that RAY_ADDRESS names (needs the extra ray)",
    )


def run(options: argparse.Namespace) -> None:
    """Raises FusionError when some pairs failed, after all others are done."""
    suffixes = {f".{ext.lower().lstrip('.')}" for ext in options.ext} if options.ext else IMAGE_SUFFIXES
    matched = match_pairs(options.ir, options.vis, options.recursive, suffixes)
    targets = {pair.name: options.out / f"{pair.name}{SUFFIXES[options.dtype]}" for pair in matched.pairs}
    refuse_overwriting(matched.pairs, options.out, {target.parent for target in targets.values()})
    if options.recursive:
        _refuse_results_as_inputs(options)
    check_writable(options.dtype)
    if options.ray_actors is not None:
        check_ray()
        # The actors are to have the accelerators; here the network is only made to see that it can be.
        jax.config.update("jax_platforms", "cpu")
    make_fuser = functools.partial(_fuser, options, _weights(options))
    net = make_fuser()
    notes = _Notes(options.out.absolute() / "notes.txt")
    prepare = _preparation(options, notes)
    _make_folder(options.out)
    todo = [pair for pair in matched.pairs if options.overwrite or not targets[pair.name].exists()]
    notes.forget(todo)
    work = {pair: targets[pair.name] for pair in _by_size(todo)}
    how: dict[str, Any] = {"batch_size": options.batch_size, "dtype": options.dtype}
    failures = list(matched.alone)
    with tqdm(total=len(todo), unit="picture", disable=None) as progress:
        if options.ray_actors is None:
            _tell_compiling(net, progress)
            outcomes = fuse_files(net, work, prepare, **how)
        else:
            how |= {"make_fuser": make_fuser, "prepare": prepare, "overwrite": options.overwrite}
            outcomes = fuse_files_on_ray(work, options.ray_actors, **how)
        try:
            for outcome in outcomes:
                if outcome.reason is not None:
                    failures.append(f"{outcome.pair.name}: {outcome.reason}")
                progress.set_postfix_str("")
                progress.update()
        except OSError as error:
            # No later picture could be written, either; what is known of the earlier pairs must not be lost by that.
            raise FusionError("\n  ".join([str(error), *failures])) from error
    fused = len(todo) - (len(failures) - len(matched.alone))
    skipped = len(matched.pairs) - len(todo)
    print(f"{options.out}: {fused} fused" + (f", {skipped} already there (--overwrite redoes them)" if skipped else ""))
    if failures:
        raise FusionError("\n  ".join([f"{len(failures)} could not be fused:", *failures]))


def _tell_compiling(net: ImageFuser, progress: tqdm) -> None:
    network = net.net if isinstance(net, TiledFuser) else net
    if isinstance(network, Fuser):
        network.on_compile = lambda program: progress.set_postfix_str(
            f"compiling {program.shape[2]}x{program.shape[1]}"
        )


def _scaling(text: str) -> ThermalScaling:
    try:
        return ThermalScaling.parse(text)
    except ValueError as error:
        # argparse would keep the reason to itself.
        raise argparse.ArgumentTypeError(str(error)) from None


def _refuse_results_as_inputs(options: argparse.Namespace) -> None:
    for folder in (options.ir, options.vis):
        if folder.resolve() in options.out.resolve().parents:
            raise ValueError(f"{options.out} lies in {folder}: with --recursive the results would be inputs, too")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{out} can't be the folder of the results: {one_line(error)}") from error


def _weights(options: argparse.Namespace) -> Weights | None:
    """What the method needs, None for a classical one; refuses options that have no use together."""
    if options.overlap is not None and options.tile is None:
        raise ValueError("--overlap has no use without --tile")
    if options.method != NETWORK:
        given = [name for name in ("weights", "norm", "adapt", "tile") if getattr(options, name) is not None]
        if given:
            raise ValueError(f"--method={options.method} has no use for --{given[0]}")
        return None
    if options.tile is not None and (options.norm not in (None, "running") or options.adapt is not None):
        raise ValueError("--tile needs running mode: the other modes take statistics of the whole picture")
    return load_weights(options.weights)


def _fuser(options: argparse.Namespace, weights: Weights | None) -> ImageFuser:
    if weights is None:
        return BaselineFuser(options.method)
    if options.tile is None:
        return Fuser(weights, options.norm, options.adapt)
    return Fuser(weights).in_tiles(options.tile, options.overlap)


def _preparation(options: argparse.Namespace, notes: _Notes) -> Preparation:
    if options.resize_ir and options.align != "none":
        raise ValueError("--resize-ir has no use with --align, which brings the infrared picture to size by itself")
    return Preparation(
        gray=options.gray,
        scaling=options.ir_scaling,
        resize_ir=options.resize_ir,
        pad_multiple=options.pad_multiple,
        align=options.align if options.align in ("none", "ecc") else read_homography(Path(options.align)),
        overlays=options.out.absolute() / "registration" if options.align != "none" else None,
        note=notes,
    )


def _by_size(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Pairs of one size together; what can't be opened comes first and fails where it is read."""
    sizes = {pair: image_size(pair.vis) or (0, 0) for pair in pairs}
    return iter(sorted(pairs, key=lambda pair: sizes[pair]))


class _Notes:
    """Collects what was done to pictures before they were fused, in a text file beside the results.

    Bytes, because names of files need not be text.
    """

    def __init__(self, path: Path):
        self.path = path

    def forget(self, pairs: Iterable[Pair]) -> None:
        """Drops what earlier runs noted about these pairs."""
        if not self.path.is_file():
            return
        names = {os.fsencode(pair.name) for pair in pairs}
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.partition(b": ")[0] not in names]
        if not kept:
            self.path.unlink()
        elif kept != lines:
            write_atomically(self.path, b"".join(kept))

    def __call__(self, pair: Pair, text: str) -> None:
        with self.path.open("ab") as file:
            file.write(os.fsencode(f"{pair.name}: {text}\n"))


class FusionError(ValueError):
    """Some pairs could not be fused; lists them all."""
