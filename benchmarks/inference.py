"""Fusing with our network against the authors' in PyTorch: same weights, same pictures, taking turns.

    python benchmarks/inference.py --sizes 480x640 --batches 1

Both sides run in processes of their own, one fusion each per round, so that a drifting machine slows both; the side
that waits is idle. Run it on an idle machine all the same. `image`: statistics of each picture; on the PyTorch side
batch normalisation in training mode, as the authors publish. `running`: stored statistics, folded into the convolutions
on our side, eval mode on theirs. The PyTorch network (`torch_rpfnet.py`) was written for this comparison and skips the
attention that the released network computes and drops.

Both sides keep freed memory: PyTorch by `MALLOC_SETTINGS`, ours by `rpfnet_jax.runtime.keep_freed_memory`, as our
commands do. JAX compiles before the first round; that time is reported apart. Without --weights the parameters are
untrained ones. The last line is `image ratio R1 running ratio R2`, PyTorch's median time over ours at the first size
and batch.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Run as a script, the folder of this file is on the path and the package is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peak_memory import peak_rss_bytes
from benchmarks.torch_side import (
    TorchProcess,
    add_common_arguments,
    ensure_torch_python,
    positive,
    use_threads,
)

MODES = ("image", "running")
TOLERANCE = 1 / 255


class Row(NamedTuple):
    """One line of the table: seconds per batch on both sides."""

    height: int
    width: int
    batch: int
    mode: str
    torch_seconds: float
    jax_seconds: float
    compile_seconds: float
    temporary_bytes: int

    @property
    def ratio(self) -> float:
        return self.torch_seconds / self.jax_seconds


def size(text: str) -> tuple[int, int]:
    height, width = map(positive, text.lower().split("x"))
    return height, width


def compare(net: Any, worker: TorchProcess, pictures: Path, mode: str, rounds: int) -> Row:
    """Checks that both sides agree, then times them in turn."""
    with np.load(pictures) as arrays:
        ir, vis = arrays["ir"], arrays["vis"]
    fused_by_torch = pictures.with_suffix(".npy")
    command = f"fuse {mode} {pictures} {fused_by_torch}"
    using = net.using(norm=mode)
    start = time.perf_counter()
    program = using.compile(ir.shape)
    compile_seconds = time.perf_counter() - start
    worker.ask(command)
    error = np.abs(np.asarray(using.fuse_luminance(ir, vis)) - np.load(fused_by_torch)).max()
    # Written so that NaN fails it, too.
    if not error <= TOLERANCE:
        raise RuntimeError(f"{mode} {ir.shape}: the results differ by {error:.2e}, more than one grey level")
    torch_seconds, jax_seconds = [], []
    for _ in range(rounds):
        torch_seconds.append(float(worker.ask(command)[0]))
        start = time.perf_counter()
        np.asarray(using.fuse_luminance(ir, vis))
        jax_seconds.append(time.perf_counter() - start)
    return Row(
        ir.shape[1],
        ir.shape[2],
        ir.shape[0],
        mode,
        statistics.median(torch_seconds),
        statistics.median(jax_seconds),
        compile_seconds,
        program.memory_analysis().temp_size_in_bytes,
    )


def format_row(row: Row) -> str:
    each = [seconds / row.batch for seconds in (row.torch_seconds, row.jax_seconds)]
    return (
        f"{row.height}x{row.width:<6}{row.batch:>5}  {row.mode:8}{each[0]:10.3f}{each[1]:10.3f}{1 / each[1]:12.2f}"
        f"{row.ratio:8.2f}{row.compile_seconds:11.1f}{row.temporary_bytes / 2**20:11.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser)
    parser.add_argument("--weights", type=Path, help="the authors' Model.pth, or any weights of the released reading")
    parser.add_argument("--sizes", type=size, nargs="+", default=[(480, 640)], metavar="HxW")
    parser.add_argument("--batches", type=positive, nargs="+", default=[1])
    args = parser.parse_args()

    torch_python = ensure_torch_python(args.torch_python)
    use_threads(args.threads)
    # Only now, when the cores are chosen.
    from benchmarks.jax_inference import make_fuser
    from rpfnet_jax.weights import to_torch

    net = make_fuser(args.weights)
    base = peak_rss_bytes()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.npz"
        np.savez(params, allow_pickle=False, **to_torch(net.variables))
        arguments = ["--params", params, "--threads", args.threads]
        with TorchProcess(torch_python, "torch_inference.py", *arguments) as worker:
            worker.read("ready")
            print(
                f"{'size':11}{'batch':>4}  {'norm':8}{'PyTorch s':>10}{'JAX s':>10}{'pictures/s':>12}{'ratio':>8}",
                end="",
            )
            print(f"{'compile s':>11}{'temp MiB':>11}", flush=True)
            for height, width in args.sizes:
                for batch in args.batches:
                    pictures = Path(folder) / f"{height}x{width}x{batch}.npz"
                    generator = np.random.default_rng(0)
                    ir, vis = generator.random((2, batch, height, width, 1), dtype=np.float32)
                    np.savez(pictures, ir=ir, vis=vis)
                    for mode in MODES:
                        rows.append(compare(net, worker, pictures, mode, args.rounds))
                        print(format_row(rows[-1]), flush=True)
            torch_peak = worker.quit()
    print(
        f"peak memory of the processes: PyTorch {torch_peak / 2**20:.0f} MiB, JAX {peak_rss_bytes() / 2**20:.0f} MiB",
        end="",
    )
    print(f" ({base / 2**20:.0f} MiB of it before the first picture)")
    print(f"image ratio {rows[0].ratio:.2f} running ratio {rows[1].ratio:.2f}")


if __name__ == "__main__":
    main()
