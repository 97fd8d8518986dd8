"""VIFp, VIFF and Qabf of 40 pictures: the float64 reference against the compiled float32 twin.

    python benchmarks/metrics.py --data=DIR

DIR holds the MSRS test pairs (ir/ and vis/); the first 40 are fused by their average. The reference computes both
protocols of VIFp and VIFF, and Qabf, picture by picture; the twin the same (and Nabf, which comes with Qabf) in
batches. Compiling is timed apart. Before it is timed, the twin must agree with the reference to 1e-4. The last line is
`ratio R`: time of the reference over time of the twin.
"""

import argparse
import sys
import time
from pathlib import Path

# Run as a script, the folder of this file is on the path and the package is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from rpfnet_jax.data.images import read_gray
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.metrics import qabf, viff, vifp_sum
from rpfnet_jax.metrics.edges import edges
from rpfnet_jax.metrics.fidelity import fidelity
from rpfnet_jax.runtime import keep_freed_memory

REPEATS = 3


def reference(fused, ir, vis):
    rows = []
    for triple in zip(fused, ir, vis, strict=True):
        row = {"qabf": qabf(*triple)}
        for protocol in ("standard", "paper"):
            row[f"viff_{protocol}"] = viff(*triple, protocol=protocol)
            row[f"vifp_{protocol}"] = vifp_sum(*triple, protocol=protocol)
        rows.append(row)
    return {column: np.array([row[column] for row in rows]) for column in rows[0]}


@jax.jit
def twin_batch(fused, ir, vis):
    return fidelity(fused, ir, vis) | edges(fused, ir, vis)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ir/ and vis/, pictures of one size")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    # As the commands do; it helps the reference.
    keep_freed_memory()
    pairs = find_pairs(options.data)[: options.pictures // options.batch * options.batch]
    ir, vis = (
        np.stack([read_gray(path) for path in side]) for side in zip(*((p.ir, p.vis) for p in pairs), strict=True)
    )
    fused = ((ir.astype(int) + vis) // 2).astype(np.uint8)

    def twin():
        starts = range(0, len(fused), options.batch)
        done = [twin_batch(*(side[at : at + options.batch] for side in (fused, ir, vis))) for at in starts]
        return {column: np.concatenate([batch[column] for batch in done]) for column in done[0]}

    start = time.perf_counter()
    found = twin()
    print(f"twin, first time: {time.perf_counter() - start:.1f} s, compiling included")
    expected = reference(fused, ir, vis)
    worst = max(np.max(np.abs(found[column] / values - 1)) for column, values in expected.items())
    print(f"largest relative difference: {worst:.1e}")
    if worst > 1e-4:
        sys.exit("the twin differs from the reference")

    seconds = {name: [] for name in ("reference", "twin")}
    for _ in range(REPEATS):
        for name, function in (("reference", lambda: reference(fused, ir, vis)), ("twin", twin)):
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    print(f"{len(fused)} pictures of {fused.shape[2]}x{fused.shape[1]}")
    for name, values in seconds.items():
        print(f"{name}: {1e3 * min(values) / len(fused):.1f} ms per picture")
    print(f"ratio {min(seconds['reference']) / min(seconds['twin']):.2f}")


if __name__ == "__main__":
    main()
