"""`rpfnet fuse` in one process against `rpfnet fuse --ray-actors=N`, from files to files.

    python benchmarks/bulk.py --data DIR --actors 2

DIR holds ir/ and vis/. Wall times of whole processes over the same pairs, start-up included, with compiled functions in
the cache on disk: a first run over two pairs per actor puts them there. `steady` leaves start-up out: the run over all
pairs less a second run over those few. The last lines say how far the pictures of the two differ, and `ratio R steady
S`: the actors' pictures per second over the single process's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Run as a script, the folder of this file is on the path and the package is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rpfnet_jax.data.images import read_image
from rpfnet_jax.data.pairs import Pair, find_pairs

REPOSITORY = Path(__file__).resolve().parents[1]


def links(pairs: list[Pair], folder: Path) -> None:
    """Makes `ir` and `vis` in the folder, with links to the pairs' files."""
    for side in ("ir", "vis"):
        (folder / side).mkdir(parents=True)
        for pair in pairs:
            source = getattr(pair, side).resolve()
            (folder / side / f"{pair.name}{source.suffix}").symlink_to(source)


def seconds(weights: str, folder: Path, out: Path, *options: str) -> float:
    """Wall time of the command."""
    places = [f"--ir={folder / 'ir'}", f"--vis={folder / 'vis'}", f"--out={out}"]
    command = [sys.executable, "-m", "rpfnet_jax", "fuse", f"--weights={weights}", *places, *options]
    start = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def measured(weights: str, folder: Path, few: int, count: int, *options: str) -> tuple[float, float]:
    """Pictures per second over everything, and without start-up."""
    out = folder / ("several" if options else "one")
    for attempt in ("cold", "warm"):
        short = seconds(weights, folder / "few", out / attempt, *options)
    whole = seconds(weights, folder / "all", out / "all", *options)
    return count / whole, (count - few) / (whole - short)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="flir", help="as for rpfnet fuse (default: %(default)s)")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=120, help="(default: %(default)s)")
    parser.add_argument("--actors", type=int, default=2, help="(default: %(default)s)")
    options = parser.parse_args()

    pairs, few = find_pairs(options.data)[: options.pairs], 2 * options.actors
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        links(pairs, folder / "all")
        links(pairs[:few], folder / "few")
        one = measured(options.weights, folder, few, len(pairs))
        several = measured(options.weights, folder, few, len(pairs), f"--ray-actors={options.actors}")
        furthest, equal = 0, 0
        for first in sorted((folder / "one" / "all").iterdir()):
            second = folder / "several" / "all" / first.name
            equal += first.read_bytes() == second.read_bytes()
            furthest = max(furthest, int(np.abs(read_image(first).astype(int) - read_image(second)).max()))
    for label, speeds in (("one process", one), (f"{options.actors} actors", several)):
        print(f"{label}: {speeds[0]:.2f} pictures/s over {len(pairs)} pairs, steady {speeds[1]:.2f}")
    print(f"{equal} of {len(pairs)} files equal byte for byte; furthest apart: {furthest} grey levels")
    print(f"ratio {several[0] / one[0]:.2f} steady {several[1] / one[1]:.2f}")


if __name__ == "__main__":
    main()
