"""Turn the authors' weights into ours, or ours back under torch's names.

Reads Model.pth (a pickled module or a state dict) without torch and without executing anything in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.numpy import save

from rpfnet_jax.files import write_atomically
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights import check_weights_name, load_weights, save_weights, to_torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="IN", help="a .pth or .safetensors file")
    parser.add_argument("out", type=Path, metavar="OUT", help="the .safetensors file to write")
    parser.add_argument(
        "--layout",
        choices=("rpfnet_jax", "torch"),
        default="rpfnet_jax",
        help="names and axes of the tensors written: our own (default), or those of the authors' code, for "
        "load_state_dict(safetensors.torch.load_file(OUT), strict=False)",
    )


def run(options: argparse.Namespace) -> None:
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
