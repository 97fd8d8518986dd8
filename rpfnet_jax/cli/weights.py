"""`rpfnet convert`, `calibrate`, `cost` and `card`: commands about weights."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path

from flax.traverse_util import flatten_dict
from safetensors.numpy import save
from tqdm import tqdm

from rpfnet_jax import __version__
from rpfnet_jax.cli.arguments import add_json, add_norm, add_weights, count, expanded, print_json, user_path
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.data.patches import batches, steps_per_epoch
from rpfnet_jax.files import write_atomically
from rpfnet_jax.inference import fusion_cost, load
from rpfnet_jax.model import ModelConfig, RPFNet
from rpfnet_jax.pipeline import open_patches
from rpfnet_jax.training import calibrate
from rpfnet_jax.weights import Weights, check_weights_name, load_weights, save_weights, shipped_names, to_torch


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
    add_json(parser)
    parser.set_defaults(run=_count_cost)


def _count_cost(options: argparse.Namespace) -> None:
    net = load(options.weights, options.norm)
    width, height = options.size
    cost = fusion_cost(net, height, width)
    if options.json:
        size = {"weights": options.weights or shipped_names()[0], "width": width, "height": height}
        print_json({**size, "norm": net.defaults.norm, **cost._asdict(), "gflops": cost.gflops})
        return
    print(f"{options.weights or 'best shipped weights'}, one image of {width}x{height}, {net.defaults.norm} mode")
    print(f"parameters                 {cost.parameters}")
    print(f"GFLOPs                     {cost.gflops:.2f}")
    print(f"  without transforms       {cost.flops / 1e9:.2f}")
    print(f"  Fourier transforms       {cost.fft_flops / 1e9:.2f}  (XLA counts {cost.fft_flops_xla / 1e9:.2f})")


def add_card(parser: argparse.ArgumentParser) -> None:
    """rpfnet card RUNS/mine --license=MIT --data-license="CC BY 4.0" --out=README.md

    Writes a model card in Markdown: network, training, data, metrics of the validation pairs (where WEIGHTS is a
    workdir that has them) and licences. What nobody recorded or stated is marked: complete it before you publish.
    """
    parser.add_argument(
        "weights", type=expanded, metavar="WEIGHTS", help="a shipped name, a file, or the workdir of a training run"
    )
    parser.add_argument("--license", metavar="L", help="licence of the weights")
    parser.add_argument("--data-license", metavar="L", help="licence of the training data")
    parser.add_argument("--out", type=user_path, metavar="FILE", help="write to a file instead of printing")
    parser.set_defaults(run=_card)


def _card(options: argparse.Namespace) -> None:
    text = model_card(options.weights, load_weights(options.weights), options.license, options.data_license)
    if options.out is None:
        print(text, end="")
    else:
        write_atomically(options.out, text.encode())
        print(options.out)


_UNKNOWN = "**not stated**"


def model_card(name: str, weights: Weights, terms: str | None = None, data_terms: str | None = None) -> str:
    """Describes weights in Markdown, from what is stored with them.

    Args:
        name: where they come from; the metrics of a workdir are included.
        weights: the loaded weights.
        terms: their licence, if known.
        data_terms: the licence of the training data, if known.
    """
    training = weights.training
    data = training.get("data", {})
    measured = Path(name) / "validation" / "metrics.md"
    parameters = sum(leaf.size for leaf in flatten_dict(weights.variables["params"]).values())
    sections = {
        "Network": _listed({"parameters": f"{parameters:,}", **dataclasses.asdict(weights.model)}),
        "Fusion": _listed(dataclasses.asdict(weights.defaults)),
        "Data": _listed({"root": data.get("root", _UNKNOWN), "licence": data_terms or _UNKNOWN}),
        "Metrics": measured.read_text().strip()
        if measured.is_file()
        else f"{_UNKNOWN}; `rpfnet evaluate` measures them",
        "Training": _fenced(training) if training else _UNKNOWN,
        "Provenance": _fenced(weights.provenance) if weights.provenance else "as trained",
        "Licence": terms or _UNKNOWN,
        "Citation": "Guan, Wang, Qian, Liu and Ma: *Residual Prior-driven Frequency-aware Network for Image Fusion*, "
        "ACM MM 2025.",
    }
    title = f"# {Path(name).name}\n\nRPFNet for fusing registered images, written by rpfnet_jax {__version__}."
    return "\n\n".join([title, *(f"## {head}\n\n{text}" for head, text in sections.items())]) + "\n"


def _listed(fields: Mapping[str, object]) -> str:
    return "\n".join(f"- {field}: {value}" for field, value in fields.items())


def _fenced(record: Mapping[str, object]) -> str:
    return f"```json\n{json.dumps(record, indent=2)}\n```"


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT, got {text!r}")
    width, height = map(int, text.split("x"))
    return width, height
