"""Times `rpfnet fuse` in one process against `rpfnet fuse --ray-actors=N`, from files to files.

    python benchmarks/bulk.py --data DIR --actors 2

DIR holds ir/ and vis/. The times are wall times of whole processes over the same pairs, start-up included, with the
compiled functions in the cache on disk: a first run over two pairs per actor puts them there. `steady` excludes
start-up: it is the run over all pairs less a second run over those few. The last lines say how far the results of the
two differ, and `ratio R steady S`: the actors' images per second over those of the single process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from end_to_end import command_seconds, link_pairs
from rpfnet_jax.data.images import read_image
from rpfnet_jax.data.pairs import find_pairs


def speeds(weights: str, folder: Path, few: int, count: int, *options: str) -> tuple[float, float]:
    """Returns images per second over all pairs, and the same without start-up."""
    out = folder / ("several" if options else "one")
    for attempt in ("cold", "warm"):
        short = command_seconds(weights, folder / "few", out / attempt, *options)
    whole = command_seconds(weights, folder / "all", out / "all", *options)
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
        link_pairs(pairs, folder / "all")
        link_pairs(pairs[:few], folder / "few")
        one = speeds(options.weights, folder, few, len(pairs))
        several = speeds(options.weights, folder, few, len(pairs), f"--ray-actors={options.actors}")
        furthest, equal = 0, 0
        for first in sorted((folder / "one" / "all").iterdir()):
            second = folder / "several" / "all" / first.name
            equal += first.read_bytes() == second.read_bytes()
            furthest = max(furthest, int(np.abs(read_image(first).astype(int) - read_image(second)).max()))
    for label, rates in (("one process", one), (f"{options.actors} actors", several)):
        print(f"{label}: {rates[0]:.2f} images/s over {len(pairs)} pairs, steady {rates[1]:.2f}")
    print(f"{equal} of {len(pairs)} files equal byte for byte; largest difference: {furthest} grey levels")
    print(f"ratio {several[0] / one[0]:.2f} steady {several[1] / one[1]:.2f}")


if __name__ == "__main__":
    main()
