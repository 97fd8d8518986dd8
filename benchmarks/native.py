"""The native convolutions against XLA's, one operation at a time: milliseconds of CPU time for one image.

CPU time rather than wall time, because both use all cores; the two sides take turns.

    python benchmarks/native.py --rounds 9
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from tabulate import tabulate

from rpfnet_jax import native

# Kernel side, input and output channels, dilation: the convolutions of the shipped networks.
OPERATIONS = [
    *[(3, 32, 32, dilation) for dilation in (1, 3, 5)],
    *[(3, 32, 16, 1), (3, 16, 16, 1), (3, 16, 7, 1), (3, 16, 1, 1), (7, 16, 1, 1)],
]


def xla(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def milliseconds(run: jax.stages.Wrapped, *operands: jax.Array) -> float:
    begun = time.process_time()
    run(*operands).block_until_ready()
    return 1e3 * (time.process_time() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    args = parser.parse_args()
    rows = []
    for size, channels, features, dilation in OPERATIONS:
        if not native.suits((size, size, channels, features)):
            parser.error(f"there is no native code here: {native.STATUS}")
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.standard_normal((1, *args.size, channels), np.float32))
        kernel = jnp.asarray(rng.standard_normal((size, size, channels, features), np.float32))
        sides = [jax.jit(partial(function, dilation=dilation)) for function in (xla, native.convolve)]
        for side in sides:
            side(x, kernel).block_until_ready()
        pairs = [[milliseconds(side, x, kernel) for side in sides] for _ in range(args.rounds)]
        theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append((f"{size}x{size}, {channels} to {features}, dilation {dilation}", theirs, ours, theirs / ours))
    print(f"{native.STATUS}, {args.size[1]}x{args.size[0]}")
    print(tabulate(rows, headers=("convolution", "XLA", "native", "ratio"), tablefmt="pipe", floatfmt=".1f"))


if __name__ == "__main__":
    main()
