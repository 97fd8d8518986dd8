"""Compares the shipped weights with each other: size, speed and quality.

    python benchmarks/shipped.py --data=data/flir/val --figure=docs/images/shipped.png

Times are those of the network alone, batch 1, each in its own norm mode and all in turns, so that all feel a machine
that slows down. Quality is the mean over the pairs of --data. Writes Markdown; the figure is of the kind of the paper's
Figure 1b. Needs the extra `report`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rpfnet_jax import Fuser, load
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.files import write_atomically
from rpfnet_jax.inference import fusion_cost
from rpfnet_jax.pipeline import evaluate_pairs
from rpfnet_jax.reports import Bubble, bubble_figure, encode
from rpfnet_jax.runtime import prepare_process
from torch_side import add_timing_arguments, use_threads

COLUMNS = {"EN": "en", "CC": "cc", "SCD": "scd", "VIFp": "vifp_standard", "Qabf": "qabf", "SSIM": "ssim"}


def measure_seconds(nets: Mapping[str, Fuser], rounds: int) -> dict[str, float]:
    """Returns the median seconds of one 480x640 image for each network."""
    images = np.random.default_rng(0).random((2, 1, 480, 640, 1), np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in nets}
    # The first round compiles.
    for number in range(rounds + 1):
        for name, net in nets.items():
            start = time.perf_counter()
            net.fuse_luminance(*images).block_until_ready()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of pairs to measure quality on")
    parser.add_argument("--names", nargs="+", default=["flir", "flir_plus", "flir_small"], help="shipped weights")
    parser.add_argument("--metric", choices=COLUMNS, default="VIFp", help="metric of the figure")
    parser.add_argument("--figure", type=Path, help="the figure to write, .png or .pdf")
    add_timing_arguments(parser, rounds=9)
    args = parser.parse_args()

    use_threads(args.threads)
    prepare_process(cpu_devices=False)
    nets = {name: load(name) for name in args.names}
    times = measure_seconds(nets, args.rounds)
    pairs = find_pairs(args.data)
    slowest = max(times.values())
    print(f"| name | parameters | GFLOPs | 480x640 | speed | {' | '.join(COLUMNS)} |\n|{'---|' * (5 + len(COLUMNS))}")
    bubbles = []
    for name, net in nets.items():
        cost, summary = fusion_cost(net, 480, 640), evaluate_pairs(net, pairs).summary
        values = " | ".join(f"{summary[column].mean:.3f}" for column in COLUMNS.values())
        seconds = times[name]
        print(
            f"| `{name}` | {cost.parameters:,} | {cost.gflops:.1f} | {seconds:.3f} s | {slowest / seconds:.1f} "
            f"| {values} |",
            flush=True,
        )
        quality = summary[COLUMNS[args.metric]].mean
        bubbles.append(Bubble(f"{name}, {seconds:.2f} s", quality, cost.parameters, cost.gflops))
    if args.figure:
        figure = encode(bubble_figure(args.metric, bubbles), args.figure.suffix.lower().lstrip("."), dpi=150)
        write_atomically(args.figure, figure)


if __name__ == "__main__":
    main()
