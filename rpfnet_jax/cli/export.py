"""`rpfnet export`: write a network as ONNX or StableHLO."""

from __future__ import annotations

import argparse
import re

from rpfnet_jax.cli.arguments import expanded, user_path
from rpfnet_jax.export import Network, to_onnx, to_stablehlo
from rpfnet_jax.files import write_atomically
from rpfnet_jax.runtime import require

FORMATS = {".onnx": "onnx", ".stablehlo": "stablehlo"}


def add_export(parser: argparse.ArgumentParser) -> None:
    """rpfnet export flir_small -o fusion.onnx --picture

    ONNX files run in ONNX Runtime, OpenVINO, TensorRT and browsers, without Python or this package; StableHLO files in
    JAX on CPU, NVIDIA GPU and TPU. They take luminances (infrared, visible) and return the fused ones, of any batch,
    height and width. docs/guide.md#export has the shapes.
    """
    parser.add_argument(
        "weights", type=expanded, metavar="WEIGHTS", help="a shipped name, a .safetensors or .pth file, or a workdir"
    )
    parser.add_argument("-o", "--out", type=user_path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--format", choices=FORMATS.values(), help="default: by the suffix of --out")
    parser.add_argument("--norm", choices=("image", "running"), help="norm mode (default: that of the weights)")
    parser.add_argument(
        "--size", type=_size, metavar="HxW", help="take images of this height and width only, which is faster"
    )
    parser.add_argument(
        "--picture", action="store_true", help="take and return 8-bit colour images instead of luminances (onnx)"
    )
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    form = options.format or FORMATS.get(options.out.suffix.lower())
    if form is None:
        raise ValueError(f"{options.out}: the name must end in {' or '.join(FORMATS)}, or --format be given")
    if form == "onnx":
        require("export")
    elif options.picture:
        raise ValueError("--picture is for --format=onnx; StableHLO files of luminances fuse images by load(FILE).fuse")
    network = Network.load(options.weights, options.norm, options.size)
    data = to_onnx(network, options.picture) if form == "onnx" else to_stablehlo(network)
    write_atomically(options.out, data)
    model, norm = network.weights.model, network.weights.defaults.norm
    size = "any height and width" if options.size is None else "height {}, width {}".format(*options.size)
    norm = "" if model.norm == "none" else f", norm {norm}"
    print(f"{options.out}: {form}, {len(data) / 1000:.0f} kB, {size}{norm}")


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, got {text!r}")
    height, width = map(int, text.split("x"))
    return height, width
