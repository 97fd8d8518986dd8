"""One pair fused at several strengths of adaptation, side by side: the knob of `adaptive` mode as one picture.

    rpfnet strip --ir=ir.png --vis=vis.png --out=strip.png

0 is `running` mode, 1 is `image` mode. Needs weights with norms and per-stage statistics (see `rpfnet calibrate`);
those that other commands take by default have none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.inference import load
from rpfnet_jax.reports import contact_sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", metavar="W", default="flir", help="a name, a file or a workdir (default: %(default)s)"
    )
    parser.add_argument("--ir", type=Path, required=True, help="infrared picture")
    parser.add_argument("--vis", type=Path, required=True, help="visible picture")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="the picture to write")
    parser.add_argument(
        "--adapt", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.25, 1.0], help="strengths (default: %(default)s)"
    )
    parser.add_argument("--height", type=int, default=320, help="of each picture in pixels (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    if options.out.suffix.lower() != ".png":
        raise ValueError(f"{options.out}: the name must end in .png")
    if options.out.resolve() in (options.ir.resolve(), options.vis.resolve()):
        raise ValueError(f"{options.out} is a picture to be fused; it would be overwritten")
    if options.height < 1:
        raise ValueError(f"--height must be at least 1, got {options.height}")
    net = load(options.weights)
    nets = {strength: net.using(norm="adaptive", adapt=strength) for strength in options.adapt}
    pictures = {"IR": read_image(options.ir), "VIS": read_image(options.vis)}
    for strength, adapted in nets.items():
        pictures[f"adapt {strength:g}"] = adapted.fuse(options.ir, options.vis)
    write_png(options.out, contact_sheet({options.vis.stem: list(pictures.values())}, list(pictures), options.height))
    print(options.out)
