"""One pair fused at several strengths of adaptation, side by side: the knob of `adaptive` mode as one picture.

    rpfnet strip --weights=W.safetensors --ir=ir.png --vis=vis.png --out=strip.png

0 is `running` mode, 1 is `image` mode. Needs weights with per-stage statistics (see `rpfnet calibrate`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.inference import load
from rpfnet_jax.reports import contact_sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, required=True, help="a .safetensors or .pth file, or a workdir")
    parser.add_argument("--ir", type=Path, required=True, help="infrared picture")
    parser.add_argument("--vis", type=Path, required=True, help="visible picture")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="the picture to write")
    parser.add_argument(
        "--adapt", type=float, nargs="+", default=[0, 0.05, 0.1, 0.25, 1], help="strengths (default: %(default)s)"
    )
    parser.add_argument("--height", type=int, default=320, help="of each picture in pixels (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    net = load(options.weights)
    pictures = {"IR": read_image(options.ir), "VIS": read_image(options.vis)}
    for strength in options.adapt:
        pictures[f"adapt {strength:g}"] = net.fuse(options.ir, options.vis, norm="adaptive", adapt=strength)
    write_png(options.out, contact_sheet({options.vis.stem: list(pictures.values())}, list(pictures), options.height))
    print(options.out)
