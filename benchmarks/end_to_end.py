"""Times the command `rpfnet fuse`, from files to files, against the network alone.

    python benchmarks/end_to_end.py --weights Model.pth --data DIR --pairs 100

DIR holds ir/ and vis/ with images of one size. The network's time is the median over the rounds of fusing one pair that
is already in memory. The command's time is the wall time of its whole process over all pairs, start-up included, with
the compiled function in the cache on disk (a first run puts it there). The last line is `ratio R1 steady R2`: the
command's images per second over the network's, and the same without start-up, which is the time of a run over one pair
less one image.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rpfnet_jax.data.pairs import Pair, find_pairs
from rpfnet_jax.inference import load, open_sources
from rpfnet_jax.runtime import prepare_process


def link_pairs(pairs: Sequence[Pair], folder: Path) -> Path:
    """Makes `ir` and `vis` in the folder, with links to the files of the pairs, and returns the folder."""
    for side in ("ir", "vis"):
        (folder / side).mkdir(parents=True)
        for pair in pairs:
            source = getattr(pair, side).resolve()
            (folder / side / f"{pair.name}{source.suffix}").symlink_to(source)
    return folder


def command_seconds(weights: str, folder: Path, out: Path, *options: str) -> float:
    """Returns the wall time of `rpfnet fuse` over the pairs of a folder."""
    places = [f"--ir={folder / 'ir'}", f"--vis={folder / 'vis'}", f"--out={out}"]
    command = [sys.executable, "-m", "rpfnet_jax", "fuse", f"--weights={weights}", *places, *options]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def network_seconds(weights: str, pair: Pair, rounds: int) -> float:
    """Returns the median seconds of fusing one image, from luminance to luminance."""
    net = load(weights)
    sources = open_sources(pair.ir, pair.vis)
    ir, vis = sources.ir[None, ..., None], sources.vis_y[None, ..., None]
    net.fuse_luminance(ir, vis).block_until_ready()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        net.fuse_luminance(ir, vis).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="as for rpfnet fuse")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=100, help="at least 2 (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()

    pairs = find_pairs(options.data)[: options.pairs]
    prepare_process(cpu_devices=False)
    with tempfile.TemporaryDirectory() as name:
        single, every = link_pairs(pairs[:1], Path(name) / "single"), link_pairs(pairs, Path(name) / "every")
        command_seconds(options.weights, single, Path(name) / "first")
        one = command_seconds(options.weights, single, Path(name) / "one")
        whole = command_seconds(options.weights, every, Path(name) / "all")
    # Measured last, because this process's thread pool would otherwise compete with the command.
    alone = network_seconds(options.weights, pairs[0], options.rounds)
    print(f"network: {1 / alone:.2f} images/s; command: {len(pairs) / whole:.2f} images/s over {len(pairs)} pairs")
    print(f"ratio {alone * len(pairs) / whole:.2f} steady {alone * (len(pairs) - 1) / (whole - one):.2f}")


if __name__ == "__main__":
    main()
