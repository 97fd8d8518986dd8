"""Times fusion with our network against the authors' in PyTorch: same weights, same images, in turns.

    python benchmarks/inference.py --sizes 480x640 --batches 1

The two sides are separate processes and take turns, one fusion each per round, so that both feel a machine that slows
down; the waiting side is idle. Use an idle machine nevertheless. `image`: norm statistics of each image; on the PyTorch
side batch normalisation in training mode, as in the authors' script. `running`: stored statistics, folded into the
convolutions on our side, eval mode on theirs. The PyTorch network (`torch_rpfnet.py`) was written for this comparison
and omits the attention that the released network computes and drops.

Both sides keep freed memory: PyTorch by `MALLOC_SETTINGS`, ours by `prepare_process`, as in our commands. JAX compiles
before the first round; that time is reported separately. Without --weights the parameters are untrained. The last line
is `image ratio R1 running ratio R2`, the median time of PyTorch over ours at the first size and batch.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rpfnet_jax import Fuser, ModelConfig, RPFNet
from rpfnet_jax.model import init_variables
from rpfnet_jax.runtime import prepare_process
from rpfnet_jax.weights import Weights, load_weights, to_torch
from shared import peak_rss_bytes
from torch_side import TorchProcess, add_torch_arguments, ensure_torch_python, positive, use_threads

MODES = ("image", "running")
TOLERANCE = 1 / 255


class Row(NamedTuple):
    """One line of the table; seconds are per batch."""

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

    def text(self) -> str:
        """Formats the line; seconds are per image."""
        theirs, ours = self.torch_seconds / self.batch, self.jax_seconds / self.batch
        return (
            f"{self.height}x{self.width:<6}{self.batch:>5}  {self.mode:8}{theirs:10.3f}{ours:10.3f}{1 / ours:12.2f}"
            f"{self.ratio:8.2f}{self.compile_seconds:11.1f}{self.temporary_bytes / 2**20:11.0f}"
        )


HEADER = (
    f"{'size':11}{'batch':>4}  {'norm':8}{'PyTorch s':>10}{'JAX s':>10}{'images/s':>12}{'ratio':>8}{'compile s':>11}"
    f"{'temp MiB':>11}"
)


def size(text: str) -> tuple[int, int]:
    """Argument type: HxW."""
    height, width = map(positive, text.lower().split("x"))
    return height, width


def make_fuser(weights: Path | None) -> Fuser:
    """Returns the given weights, or untrained ones of the released reading."""
    if weights is not None:
        return Fuser(load_weights(weights))
    config = ModelConfig.preset("released")
    image = jnp.zeros((1, 16, 16, 1))
    return Fuser(Weights(config, init_variables(RPFNet(config), jax.random.key(0), image, image)))


def compare(net: Fuser, worker: TorchProcess, images: Path, mode: str, rounds: int) -> Row:
    """Checks that both sides agree, then times them in turn."""
    with np.load(images) as arrays:
        ir, vis = arrays["ir"], arrays["vis"]
    fused_by_torch = images.with_suffix(".npy")
    command = f"fuse {mode} {images} {fused_by_torch}"
    using = net.using(norm=mode)
    start = time.perf_counter()
    program = using.compile(ir.shape)
    compile_seconds = time.perf_counter() - start
    worker.ask(command)
    error = np.abs(np.asarray(using.fuse_luminance(ir, vis)) - np.load(fused_by_torch)).max()
    # This form also refuses NaN.
    if not error <= TOLERANCE:
        raise RuntimeError(f"{mode} {ir.shape}: the results differ by {error:.2e}, more than one grey level")
    torch_seconds, jax_seconds = [], []
    for _ in range(rounds):
        torch_seconds.append(float(worker.ask(command)[0]))
        start = time.perf_counter()
        np.asarray(using.fuse_luminance(ir, vis))
        jax_seconds.append(time.perf_counter() - start)
    return Row(
        height=ir.shape[1],
        width=ir.shape[2],
        batch=ir.shape[0],
        mode=mode,
        torch_seconds=statistics.median(torch_seconds),
        jax_seconds=statistics.median(jax_seconds),
        compile_seconds=compile_seconds,
        temporary_bytes=program.memory_analysis().temp_size_in_bytes,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_torch_arguments(parser)
    parser.add_argument("--weights", type=Path, help="the authors' Model.pth, or any weights of the released reading")
    parser.add_argument("--sizes", type=size, nargs="+", default=[(480, 640)], metavar="HxW")
    parser.add_argument("--batches", type=positive, nargs="+", default=[1])
    args = parser.parse_args()

    torch_python = ensure_torch_python(args.torch_python)
    use_threads(args.threads)
    prepare_process(cpu_devices=False)
    net = make_fuser(args.weights)
    base = peak_rss_bytes()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.npz"
        np.savez(params, allow_pickle=False, **to_torch(net.variables))
        with TorchProcess(torch_python, "fuse", "--params", params, "--threads", args.threads) as worker:
            worker.read("ready")
            print(HEADER, flush=True)
            for height, width in args.sizes:
                for batch in args.batches:
                    images = Path(folder) / f"{height}x{width}x{batch}.npz"
                    generator = np.random.default_rng(0)
                    ir, vis = generator.random((2, batch, height, width, 1), dtype=np.float32)
                    np.savez(images, ir=ir, vis=vis)
                    for mode in MODES:
                        rows.append(compare(net, worker, images, mode, args.rounds))
                        print(rows[-1].text(), flush=True)
            torch_peak = worker.quit()
    print(
        f"peak memory of the processes: PyTorch {torch_peak / 2**20:.0f} MiB, JAX {peak_rss_bytes() / 2**20:.0f} MiB "
        f"({base / 2**20:.0f} MiB of it before the first image)"
    )
    print(f"image ratio {rows[0].ratio:.2f} running ratio {rows[1].ratio:.2f}")


if __name__ == "__main__":
    main()
