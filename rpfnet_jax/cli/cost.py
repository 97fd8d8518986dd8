"""Count parameters and floating point operations of a network for one picture.

    rpfnet cost --weights=W.safetensors --size=640x480

Operations are those of the compiled program, by XLA. Its count of Fourier transforms is far too high (it multiplies
logarithms), so they are named apart and counted as 2.5 n log2 n each, n the pixels.
"""

from __future__ import annotations

import argparse
import re

from rpfnet_jax.cli.arguments import add_weights
from rpfnet_jax.inference import load
from rpfnet_jax.inference.cost import fusion_cost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights(parser)
    parser.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="default: 640x480")
    parser.add_argument("--norm", choices=("image", "running", "adaptive"), help="instead of the weights' own")


def run(options: argparse.Namespace) -> None:
    net = load(options.weights, options.norm)
    width, height = options.size
    cost = fusion_cost(net, height, width)
    print(f"{options.weights or 'best shipped weights'}, one picture of {width}x{height}, {net.defaults.norm} mode")
    print(f"parameters                 {cost.parameters}")
    print(f"GFLOPs                     {cost.gflops:.2f}")
    print(f"  without transforms       {cost.flops / 1e9:.2f}")
    print(f"  Fourier transforms       {cost.fft_flops / 1e9:.2f}  (XLA counts {cost.fft_flops_xla / 1e9:.2f})")


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT, got {text!r}")
    width, height = map(int, text.split("x"))
    return width, height
