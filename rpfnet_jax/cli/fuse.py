"""`rpfnet fuse`."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.cli.arguments import (
    add_adapt,
    add_norm,
    add_precision,
    add_scaling,
    add_weights,
    count,
    expanded,
    refuse_overwriting_file,
    scalings_of,
    user_path,
)
from rpfnet_jax.data.images import SUFFIXES, image_size
from rpfnet_jax.data.pairs import IMAGE_SUFFIXES, Pair, match_pairs, refuse_overwriting
from rpfnet_jax.files import naming, one_line, write_atomically
from rpfnet_jax.inference import BaselineFuser, Fuser, ImageFuser
from rpfnet_jax.inference.folders import Preparation, fuse_files
from rpfnet_jax.inference.fuser import TiledFuser
from rpfnet_jax.inference.ray import fuse_files_on_ray
from rpfnet_jax.registration import read_homography
from rpfnet_jax.runtime import require
from rpfnet_jax.weights import Weights, load_weights

_NETWORK = "rpfnet"


def add_fuse(parser: argparse.ArgumentParser) -> None:
    """rpfnet fuse --ir=ir/ --vis=vis/ --out=fused/

    Every image is fused at its own size; colour in, colour out. Results that exist already are skipped. A pair that
    can't be fused does not stop the others: it is reported at the end, and the exit code is then 1.
    """
    parser.add_argument("--ir", type=user_path, required=True, help="infrared image, or folder of images")
    parser.add_argument(
        "--vis",
        type=user_path,
        required=True,
        help="visible image, or folder; pairs have the same name, but for words such as ir and vis",
    )
    parser.add_argument(
        "--out",
        type=user_path,
        required=True,
        metavar="DIR",
        help="folder for the results; for two files also an image",
    )

    method = parser.add_argument_group("method")
    add_weights(method)
    add_norm(method)
    add_adapt(method)
    add_precision(method)
    method.add_argument("--method", choices=(_NETWORK, *BASELINES), default=_NETWORK, help="or a classical method")

    files = parser.add_argument_group("files")
    files.add_argument("--overwrite", action="store_true", help="fuse again if the result exists already")
    files.add_argument("--recursive", action="store_true", help="include subfolders and keep their structure")
    files.add_argument("--ext", nargs="+", metavar="EXT", help="only files with these suffixes, such as: png tif")
    files.add_argument("--gray", action="store_true", help="grey results, also of colour images")
    files.add_argument(
        "--strip-metadata",
        action="store_true",
        help="leave out the visible images' colour profile, EXIF (with GPS) and resolution, which go along otherwise",
    )
    files.add_argument("--dtype", choices=SUFFIXES, default="uint8", help="uint8 writes PNG (default), the others TIFF")

    preparation = parser.add_argument_group("images that are not registered or not 8-bit")
    add_scaling(preparation)
    preparation.add_argument(
        "--resize-ir", action="store_true", help="scale the infrared image to the visible one's size"
    )
    preparation.add_argument(
        "--align",
        type=expanded,
        default="none",
        metavar="HOW",
        help="register first: ecc finds an affine registration; a .txt file holds a homography, infrared to visible. "
        "Checkerboards to judge it by are saved in DIR/registration",
    )

    size = parser.add_argument_group("memory and speed")
    size.add_argument("--tile", type=int, metavar="N", help="fuse in tiles of NxN pixels, in running mode")
    size.add_argument(
        "--overlap",
        type=int,
        metavar="N",
        help="pixels that tiles share (default: 64, or a quarter of a tile if that is less)",
    )
    size.add_argument("--batch-size", type=count, metavar="N", help="images of one size fused at once")
    size.add_argument(
        "--ray-actors",
        type=count,
        metavar="N",
        help="fuse in N processes, on this machine or on the Ray cluster that RAY_ADDRESS names (needs the extra ray)",
    )
    parser.set_defaults(run=_fuse)


def _fuse(options: argparse.Namespace) -> None:
    """Raises FusionError if some pairs failed, after all others are done."""
    suffixes = {f".{ext.lower().lstrip('.')}" for ext in options.ext} if options.ext else IMAGE_SUFFIXES
    matched = match_pairs(options.ir, options.vis, options.recursive, suffixes)
    folder, targets = _targets(options, matched.pairs)
    if options.recursive:
        _refuse_results_as_inputs(options)
    if options.align != "none":
        require("align")
    if options.ray_actors is not None:
        require("ray")
        # The actors need the accelerators; this process only makes a fuser to check the options.
        jax.config.update("jax_platforms", "cpu")
    make_fuser = functools.partial(_fuser, options, _weights(options))
    net = make_fuser()
    notes = _Notes(folder.absolute() / "notes.txt")
    prepare = _preparation(options, folder, notes)
    _make_folder(folder)
    todo = [pair for pair in matched.pairs if options.overwrite or not targets[pair.name].exists()]
    notes.forget(todo)
    work = {pair: targets[pair.name] for pair in _by_size(todo)}
    how: dict[str, Any] = {"batch_size": options.batch_size, "dtype": options.dtype}
    failures = list(matched.alone)
    with tqdm(total=len(todo), unit="image", disable=None) as progress:
        if options.ray_actors is None:
            _show_compilation(net, progress)
            results = fuse_files(net, work, prepare, **how)
        else:
            how |= {"make_fuser": make_fuser, "prepare": prepare, "overwrite": options.overwrite}
            results = fuse_files_on_ray(work, options.ray_actors, **how)
        try:
            for result in results:
                if result.reason is not None:
                    failures.append(f"{result.pair.name}: {result.reason}")
                progress.set_postfix_str("")
                progress.update()
        except OSError as error:
            # No later image could be written either, but the failures so far must still be reported.
            raise FusionError("\n  ".join([str(error), *failures])) from error
    fused = len(todo) - (len(failures) - len(matched.alone))
    skipped = len(matched.pairs) - len(todo)
    print(f"{options.out}: {fused} fused" + (f", {skipped} already there (--overwrite redoes them)" if skipped else ""))
    if failures:
        raise FusionError("\n  ".join([f"{len(failures)} could not be fused:", *failures]))


def _targets(options: argparse.Namespace, pairs: Sequence[Pair]) -> tuple[Path, dict[str, Path]]:
    """Returns the folder of the results, and the file of each pair by its name.

    Raises:
        ValueError: a result would overwrite a source, or the name of an image is given for a folder.
    """
    out, suffix = options.out, SUFFIXES[options.dtype]
    if out.suffix.lower() not in IMAGE_SUFFIXES or out.is_dir():
        targets = {pair.name: out / f"{pair.name}{suffix}" for pair in pairs}
        refuse_overwriting(pairs, out, {target.parent for target in targets.values()})
        return out, targets
    if options.ir.is_dir():
        raise ValueError(f"--out={out} is the name of an image; the results of two folders need a folder")
    if out.suffix != suffix:
        raise ValueError(f"--out={out}: {options.dtype} is written as {suffix} (--dtype)")
    refuse_overwriting_file(out, options.ir, options.vis)
    return out.parent, {pair.name: out for pair in pairs}


def _show_compilation(net: ImageFuser, progress: tqdm) -> None:
    network = net.net if isinstance(net, TiledFuser) else net
    if isinstance(network, Fuser):
        network.on_compile = lambda program: progress.set_postfix_str(
            f"compiling {program.shape[2]}x{program.shape[1]}"
        )


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
    """Loads the network, None for a classical method; raises ValueError for options that have no effect together."""
    if options.overlap is not None and options.tile is None:
        raise ValueError("--overlap has no use without --tile")
    if options.method != _NETWORK:
        given = [name for name in ("weights", "norm", "adapt", "tile") if getattr(options, name) is not None]
        given += ["precision"] if options.precision != "float32" else []
        if given:
            raise ValueError(f"--method={options.method} has no use for --{given[0]}")
        return None
    if options.tile is not None and (options.norm not in (None, "running") or options.adapt is not None):
        raise ValueError("--tile needs running mode: the other modes take statistics of the whole image")
    return load_weights(options.weights)


def _fuser(options: argparse.Namespace, weights: Weights | None) -> ImageFuser:
    if weights is None:
        return BaselineFuser(options.method)
    if options.tile is None:
        return Fuser(weights, options.norm, options.adapt, options.precision)
    return Fuser(weights, precision=options.precision).in_tiles(options.tile, options.overlap)


def _preparation(options: argparse.Namespace, folder: Path, notes: _Notes) -> Preparation:
    if options.resize_ir and options.align != "none":
        raise ValueError("--resize-ir has no use with --align, which scales the infrared image itself")
    return Preparation(
        gray=options.gray,
        scaling=scalings_of(options),
        metadata=not options.strip_metadata,
        resize_ir=options.resize_ir,
        align=options.align if options.align in ("none", "ecc") else read_homography(Path(options.align)),
        overlays=folder.absolute() / "registration" if options.align != "none" else None,
        note=notes,
    )


def _by_size(pairs: Sequence[Pair]) -> list[Pair]:
    """Sorts pairs so that those of one size are adjacent; files that can't be opened come first and fail when read."""
    sizes = {pair: image_size(pair.vis) or (0, 0) for pair in pairs}
    return sorted(pairs, key=lambda pair: sizes[pair])


class _Notes:
    """Lists what was done to images before they were fused, in a text file beside the results.

    The file is read and written as bytes, because names of files need not be text.
    """

    def __init__(self, path: Path):
        self.path = path

    def forget(self, pairs: Iterable[Pair]) -> None:
        """Removes the notes of earlier runs about these pairs."""
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
        with naming(self.path), self.path.open("ab") as file:
            file.write(os.fsencode(f"{pair.name}: {text}\n"))


class FusionError(ValueError):
    """Some pairs could not be fused; the message lists them all."""
