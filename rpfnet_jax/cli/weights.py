"""`rpfnet convert`, `calibrate` and `cost`: commands about weights."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import re

from safetensors.numpy import save
from tqdm import tqdm

from rpfnet_jax.cli.arguments import add_norm, add_weights, count, user_path
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.data.patches import batches, steps_per_epoch
from rpfnet_jax.files import write_atomically
from rpfnet_jax.inference import fusion_cost, load
from rpfnet_jax.model import ModelConfig, RPFNet
from rpfnet_jax.pipeline import open_patches
from rpfnet_jax.training import calibrate
from rpfnet_jax.weights import check_weights_name, load_weights, save_weights, to_torch


def add_convert(parser: argparse.ArgumentParser) -> None:
    """rpfnet convert Model.pth released.safetensors

    Reads the authors' Model.pth (a pickled module or a state dict) without torch and without executing anything in it.
    """
    parser.add_argument("weights", type=user_path, metavar="IN", help="a .pth or .safetensors file")
    parser.add_argument("out", type=user_path, metavar="OUT", help="the .safetensors file to write")
    parser.add_argument(
        "--layout",
        choices=("rpfnet_jax", "torch"),
        default="rpfnet_jax",
        help="names and axes of the written tensors: those of this package (default), or those of the authors' code, "
        "for load_state_dict(safetensors.torch.load_file(OUT), strict=False)",
    )
    parser.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> None:
    check_weights_name(options.out)
    weights = load_weights(options.weights)
    if options.layout == "torch":
        model = weights.model
        if model != ModelConfig.preset("released", channels=model.channels, stages=model.stages):
            raise ValueError(f"{options.weights} does not hold the authors' network, the only one with torch's names")
        tensors = to_torch(weights.variables)
        write_atomically(options.out, save(tensors, {"format": "pt"}))
        print(f"{options.out}: {len(tensors)} tensors under torch's names")
        return
    save_weights(options.out, weights)
    dropped = weights.provenance.get("converted", {}).get("dropped", [])
    print(f"{options.out}: {weights.model}")
    if dropped:
        print(f"left out, because nothing reads them: {', '.join(dropped)}")


def add_calibrate(parser: argparse.ArgumentParser) -> None:
    """rpfnet calibrate Model.pth --data=data/flir/train --out=calibrated.safetensors

    The authors' weights come with one set of running statistics for three stages, which fits none of them. This runs
    patches of training images through the network and stores the mean and variance of every norm layer in every stage.
    """
    parser.add_argument("weights", type=user_path, metavar="WEIGHTS", help="a .safetensors or .pth file")
    parser.add_argument(
        "--data", type=user_path, required=True, metavar="DIR", help="training pairs: DIR/ir and DIR/vis"
    )
    parser.add_argument("-o", "--out", type=user_path, required=True, help="the .safetensors file to write")
    parser.add_argument("--patches", type=count, default=320, help="how many patches to measure (default: %(default)s)")
    parser.add_argument("--patch-size", type=count, default=128, help="their side in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=count, default=16, help="patches at a time (default: %(default)s)")
    parser.add_argument(
        "--norm",
        choices=("image", "batch", "running"),
        default="image",
        help="statistics that the network uses meanwhile: of each patch (default), of the batch, or the stored ones",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the patches (default: %(default)s)")
    parser.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> None:
    check_weights_name(options.out)
    weights = load_weights(options.weights)
    source = open_patches(find_pairs(options.data), options.patches, options.patch_size, options.seed)
    steps = steps_per_epoch(len(source), options.batch_size)
    epoch = itertools.islice(batches(source, options.batch_size, options.seed), steps)
    progress = tqdm(epoch, total=steps, unit="batch", disable=None)
    variables, patches = calibrate(RPFNet(weights.model), weights.variables, progress, options.norm)
    record = {
        "patches": patches,
        "patch_size": options.patch_size,
        "batch_size": options.batch_size,
        "norm": options.norm,
        "seed": options.seed,
        "content_sha256": source.fingerprint(),
    }
    provenance = {**weights.provenance, "calibrated": record}
    save_weights(options.out, dataclasses.replace(weights, variables=variables, provenance=provenance))
    print(f"{options.out}: statistics of {patches} patches from {len(source.pairs)} pairs")


def add_cost(parser: argparse.ArgumentParser) -> None:
    """rpfnet cost --weights=W.safetensors --size=640x480

    XLA counts the operations of the compiled program. Its count of Fourier transforms is far too high (it multiplies
    logarithms), so transforms are listed separately and counted as 2.5 n log2 n each, n being the number of pixels.
    """
    add_weights(parser)
    parser.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="default: 640x480")
    add_norm(parser)
    parser.set_defaults(run=_count_cost)


def _count_cost(options: argparse.Namespace) -> None:
    net = load(options.weights, options.norm)
    width, height = options.size
    cost = fusion_cost(net, height, width)
    print(f"{options.weights or 'best shipped weights'}, one image of {width}x{height}, {net.defaults.norm} mode")
    print(f"parameters                 {cost.parameters}")
    print(f"GFLOPs                     {cost.gflops:.2f}")
    print(f"  without transforms       {cost.flops / 1e9:.2f}")
    print(f"  Fourier transforms       {cost.fft_flops / 1e9:.2f}  (XLA counts {cost.fft_flops_xla / 1e9:.2f})")


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT, got {text!r}")
    width, height = map(int, text.split("x"))
    return width, height
