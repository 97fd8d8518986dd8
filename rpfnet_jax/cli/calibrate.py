"""Measure per-stage running statistics, so that `running` and `adaptive` mode work with weights from elsewhere.

The authors' weights come with one set of running statistics for three stages, which fits none of them. This runs
patches of training pictures through the network and stores mean and variance of every norm layer in every stage.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path

from tqdm import tqdm

from rpfnet_jax.cli.arguments import count
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.data.patches import batches, steps_per_epoch
from rpfnet_jax.model import RPFNet
from rpfnet_jax.pipeline import open_patches
from rpfnet_jax.training import calibrate
from rpfnet_jax.weights import check_weights_name, load_weights, save_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a .safetensors or .pth file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="training pairs: DIR/ir and DIR/vis")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--patches", type=count, default=320, help="how many patches to measure (default: %(default)s)")
    parser.add_argument("--patch-size", type=count, default=128, help="their side in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=count, default=16, help="patches at a time (default: %(default)s)")
    parser.add_argument(
        "--norm",
        choices=("image", "batch", "running"),
        default="image",
        help="what the network normalises with while it is measured: each patch's own statistics (default), those of "
        "the batch, or the stored ones",
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the patches (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
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
