"""Times the jitted float32 metrics against their float64 reference: VIFp, VIFF and Qabf of 40 images.

    python benchmarks/metrics.py --data=DIR

DIR holds the MSRS test pairs (ir/ and vis/); the first 40 are fused by their average. The reference computes both
protocols of VIFp and VIFF, and Qabf, image by image; the jitted functions compute the same (and Nabf, which comes with
Qabf) in batches. Before they are timed, both must agree to 1e-4. Compilation is timed separately. The last line is
`ratio R`: time of the reference over time of the jitted functions.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import numpy as np

from rpfnet_jax.data.images import read_gray
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.metrics import qabf, viff, vifp_sum
from rpfnet_jax.metrics.edges import edges
from rpfnet_jax.metrics.fidelity import fidelity
from rpfnet_jax.runtime import prepare_process

REPEATS = 3


def reference(fused, ir, vis):
    """Returns column -> one value per image."""
    rows = []
    for triple in zip(fused, ir, vis, strict=True):
        row = {"qabf": qabf(*triple)}
        for protocol in ("standard", "paper"):
            row[f"viff_{protocol}"] = viff(*triple, protocol=protocol)
            row[f"vifp_{protocol}"] = vifp_sum(*triple, protocol=protocol)
        rows.append(row)
    return {column: np.array([row[column] for row in rows]) for column in rows[0]}


@jax.jit
def jitted_batch(fused, ir, vis):
    return fidelity(fused, ir, vis) | edges(fused, ir, vis)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ir/ and vis/, images of one size")
    parser.add_argument("--images", "--pictures", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    # Both sides run in one process, as in training, whose kept memory also helps the reference.
    prepare_process(cpu_devices=False)
    pairs = find_pairs(options.data)[: options.images // options.batch * options.batch]
    ir, vis = (
        np.stack([read_gray(path) for path in side]) for side in zip(*((p.ir, p.vis) for p in pairs), strict=True)
    )
    fused = ((ir.astype(int) + vis) // 2).astype(np.uint8)

    def jitted(fused, ir, vis):
        starts = range(0, len(fused), options.batch)
        done = [jitted_batch(*(side[at : at + options.batch] for side in (fused, ir, vis))) for at in starts]
        return {column: np.concatenate([batch[column] for batch in done]) for column in done[0]}

    start = time.perf_counter()
    found = jitted(fused, ir, vis)
    print(f"jitted, first call: {time.perf_counter() - start:.1f} s, compilation included")
    expected = reference(fused, ir, vis)
    worst = max(np.max(np.abs(found[column] / values - 1)) for column, values in expected.items())
    print(f"largest relative difference: {worst:.1e}")
    if worst > 1e-4:
        sys.exit("the jitted metrics differ from the reference")

    seconds = {reference: [], jitted: []}
    for _ in range(REPEATS):
        for function, values in seconds.items():
            start = time.perf_counter()
            function(fused, ir, vis)
            values.append(time.perf_counter() - start)
    print(f"{len(fused)} images of {fused.shape[2]}x{fused.shape[1]}")
    for function, values in seconds.items():
        print(f"{function.__name__}: {1e3 * min(values) / len(fused):.1f} ms per image")
    print(f"ratio {min(seconds[reference]) / min(seconds[jitted]):.2f}")


if __name__ == "__main__":
    main()
