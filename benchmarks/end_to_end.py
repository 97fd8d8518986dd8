"""The command `rpfnet fuse`, from files to files, against the network alone.

    python benchmarks/end_to_end.py --weights Model.pth --data DIR --pairs 100

DIR holds ir/ and vis/ with pictures of one size. The network's time per picture is the median over the rounds of fusing
one pair that is already in memory; the command's is the wall time of its whole process, start-up included, over all
pairs, with the compiled function in the cache on disk (a first run puts it there). The last line is `ratio R1 steady
R2`: the command's pictures per second over the network's, and the same without start-up, which is what a run over one
pair takes less one picture.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Run as a script, the folder of this file is on the path and the package is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rpfnet_jax.data.pairs import Pair, find_pairs
from rpfnet_jax.inference import load, open_sources
from rpfnet_jax.runtime import enable_compilation_cache, keep_freed_memory

REPOSITORY = Path(__file__).resolve().parents[1]


def network_seconds(weights: Path, pair: Pair, rounds: int) -> float:
    """Median seconds of fusing one picture, from luminance to luminance."""
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


def command_seconds(weights: Path, pairs: list[Pair], folder: Path) -> float:
    """Wall time of the command over copies of the pairs' files."""
    for side in ("ir", "vis"):
        (folder / side).mkdir(parents=True)
        for pair in pairs:
            shutil.copy(getattr(pair, side), folder / side)
    places = [f"--ir={folder / 'ir'}", f"--vis={folder / 'vis'}", f"--out={folder / 'out'}"]
    command = [sys.executable, "-m", "rpfnet_jax", "fuse", f"--weights={weights}", *places]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=100, help="at least 2 (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()

    pairs = find_pairs(options.data)[: options.pairs]
    keep_freed_memory()
    enable_compilation_cache()
    with tempfile.TemporaryDirectory() as folder:
        command_seconds(options.weights, pairs[:1], Path(folder) / "first")
        one = command_seconds(options.weights, pairs[:1], Path(folder) / "one")
        whole = command_seconds(options.weights, pairs, Path(folder) / "all")
    # Afterwards: in this process the pool of the network's threads would be in the command's way.
    alone = network_seconds(options.weights, pairs[0], options.rounds)
    print(f"network: {1 / alone:.2f} pictures/s; command: {len(pairs) / whole:.2f} pictures/s over {len(pairs)} pairs")
    print(f"ratio {alone * len(pairs) / whole:.2f} steady {alone * (len(pairs) - 1) / (whole - one):.2f}")


if __name__ == "__main__":
    main()
