"""One training step of ours against an equal one in PyTorch: same network, losses, parameters and batch.

    python benchmarks/train_step.py --batch 16 --patch 128

Both sides run in processes of their own and take turns, one step each per round, so that a drifting machine
slows both; the side that waits is idle. Run it on an idle machine all the same: with other work on its cores
PyTorch, whose threads wait for each other after every operation, was seen to take four times as long, and
nothing says that JAX slows by the same factor.

The PyTorch step (`torch_rpfnet.py`) was written for this comparison and skips what the released network
computes and drops. JAX compiles before the first round; that time is reported apart. The JAX process keeps
the allocator settings it was started with, the PyTorch one gets `MALLOC_SETTINGS`.

The JAX side is `make_jax_step(batch, patch)` of `jax_step.py`; what it returns is said at `JaxStep` below.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

FOLDER = Path(__file__).resolve().parent
# Run as a script, the folder of this file is on the path and the package is not.
sys.path.insert(0, str(FOLDER.parent))

from benchmarks.peak_memory import peak_rss_bytes  # noqa: E402

TORCH_VERSION = "2.13.0"
# glibc gives blocks of 32 MiB and more back at once, and the kernel zeroes their pages at each allocation.
# From batch 16 at 128x128 on, a feature map is such a block, and the PyTorch step takes two to three times
# as long. To beat that would be no achievement, so PyTorch keeps its memory.
MALLOC_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "8000000000",
    "MALLOC_TRIM_THRESHOLD_": "16000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
WARM_UP_STEPS = 2
# Relative. The first loss is the forward pass alone. The second has seen one Adam step, which turns the
# rounding of the smallest gradients into full steps (2e-5); an auxiliary decoder that did not train shows as
# 1.6e-3.
LOSS_TOLERANCES = (1e-4, 5e-4)

# What `make_jax_step(batch, patch)` returns:
# - the step: takes no arguments, trains once on `fixed_batch(batch, patch)` and returns the loss before the
#   update as a float, after `jax.block_until_ready` on the new state. It keeps the state between calls. Its
#   first call is at the initial parameters: compile ahead of it, without taking a step.
# - the initial parameters as copies, torch name to float32 array in torch's layout (convolutions OIHW); those
#   of the auxiliary decoder under `aux.`. Running statistics and the dropped attention may be left out.
# - the seconds that tracing and compiling took.
JaxStep = tuple[Callable[[], float], Mapping[str, np.ndarray], float]
MakeJaxStep = Callable[[int, int], JaxStep]


@dataclass(frozen=True)
class Comparison:
    """Seconds of each step, in the order taken, and what they cost beside."""

    torch_seconds: list[float]
    jax_seconds: list[float]
    torch_peak_bytes: int
    jax_peak_bytes: int
    jax_compile_seconds: float
    torch_losses: list[float]
    jax_losses: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.torch_seconds) / statistics.median(self.jax_seconds)


class TorchWorker:
    """A running `torch_worker.py`, warmed up. A context manager: the process ends with the block."""

    def __init__(self, python: Path, batch: int, patch: int, threads: int, params: Path) -> None:
        command = [str(python), str(FOLDER / "torch_worker.py"), "--params", str(params)]
        command += ["--batch", str(batch), "--patch", str(patch), "--threads", str(threads)]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **MALLOC_SETTINGS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self.warm_up_losses = [float(loss) for loss in self._read("ready")]

    def _write(self, line: str) -> None:
        self._input.write(line + "\n")
        self._input.flush()

    def _read(self, keyword: str | None = None) -> list[str]:
        """The words of the next line, without its keyword."""
        words = self._output.readline().split()
        if not words or (keyword is not None and words[0] != keyword):
            self._process.kill()
            exit_code = self._process.wait()
            raise RuntimeError(f"the PyTorch process failed (exit code {exit_code}), wrote {words}")
        return words if keyword is None else words[1:]

    def step(self) -> float:
        """Takes one train step; returns its seconds, measured in the process itself."""
        self._write("step")
        return float(self._read()[0])

    def quit(self) -> int:
        """Ends the process; returns its peak memory in bytes."""
        self._write("quit")
        peak = int(self._read("peak_rss_bytes")[0])
        self._process.wait()
        return peak

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()


def ensure_torch_python(python: Path | None) -> Path:
    """The given interpreter, or that of `.torch-venv` beside this file, made on the first call."""
    if python is not None:
        return python
    environment = FOLDER / ".torch-venv"
    python = environment / "bin" / "python"
    # Asked of torch itself: a folder may be left over from an installation that broke off.
    question = [str(python), "-c", "import numpy, torch; print(torch.__version__.split('+')[0])"]
    if python.exists():
        answer = subprocess.run(question, capture_output=True, text=True, check=False).stdout.strip()
        if answer == TORCH_VERSION:
            return python
    # The plain index gives Linux gigabytes of CUDA libraries. Which other one to trust, the caller says.
    print(
        f"installing torch {TORCH_VERSION} into {environment}; for a smaller build without CUDA set "
        "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu",
        flush=True,
    )
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", f"torch=={TORCH_VERSION}", "numpy"]
    subprocess.run(install, check=True)
    return python


def use_threads(threads: int) -> None:
    """Confines this process, and the one it starts, to so many cores. To be called before JAX is imported.

    XLA sizes its thread pool by the cores that the process may use.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads > len(cores):
            raise SystemExit(f"--threads {threads}: only {len(cores)} cores are at hand")
        os.sched_setaffinity(0, cores[:threads])
    elif threads != available_cores():
        raise SystemExit("--threads: this system cannot confine a process to some of its cores")


def available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_losses(jax_losses: list[float], torch_losses: list[float]) -> None:
    """Raises unless both sides computed the same losses in their first two steps."""
    for number, (ours, theirs, tolerance) in enumerate(
        zip(jax_losses, torch_losses, LOSS_TOLERANCES, strict=True), start=1
    ):
        # Written so that a NaN fails too.
        if not abs(ours - theirs) <= tolerance * abs(theirs):
            raise RuntimeError(f"the losses of step {number} differ: {ours} in JAX, {theirs} in PyTorch")


def compare(
    make_jax_step: MakeJaxStep, torch_python: Path, batch: int, patch: int, threads: int, rounds: int
) -> Comparison:
    """Builds both sides from the same parameters, checks that they agree, and times them in turn."""
    jax_step, parameters, compile_seconds = make_jax_step(batch, patch)
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.npz"
        np.savez(params, allow_pickle=False, **parameters)
        with TorchWorker(torch_python, batch, patch, threads, params) as worker:
            jax_losses = [jax_step() for _ in range(WARM_UP_STEPS)]
            check_losses(jax_losses, worker.warm_up_losses)
            torch_seconds, jax_seconds = [], []
            for _ in range(rounds):
                torch_seconds.append(worker.step())
                start = time.perf_counter()
                jax_step()
                jax_seconds.append(time.perf_counter() - start)
            return Comparison(
                torch_seconds=torch_seconds,
                jax_seconds=jax_seconds,
                torch_peak_bytes=worker.quit(),
                jax_peak_bytes=peak_rss_bytes(),
                jax_compile_seconds=compile_seconds,
                torch_losses=worker.warm_up_losses,
                jax_losses=jax_losses,
            )


def format_table(result: Comparison) -> str:
    """The comparison as text; the last line is `ratio R`, above 1 where JAX is the faster side."""
    lines = [f"{'':8}{'min s':>9}{'median s':>10}{'max s':>9}{'compile s':>11}{'peak MiB':>10}  first losses"]
    compiling = f"{result.jax_compile_seconds:.1f}"
    for name, seconds, compiled, peak, losses in (
        ("PyTorch", result.torch_seconds, "-", result.torch_peak_bytes, result.torch_losses),
        ("JAX", result.jax_seconds, compiling, result.jax_peak_bytes, result.jax_losses),
    ):
        times = f"{min(seconds):9.3f}{statistics.median(seconds):10.3f}{max(seconds):9.3f}"
        losses_text = " ".join(f"{loss:.6f}" for loss in losses)
        lines.append(f"{name:8}{times}{compiled:>11}{peak / 2**20:10.0f}  {losses_text}")
    return "\n".join([*lines, f"ratio {result.ratio:.2f}"])


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--torch-python",
        type=Path,
        default=None,
        help=f"has torch {TORCH_VERSION} and NumPy (default: benchmarks/.torch-venv, made if missing)",
    )
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--patch", type=positive, default=128)
    parser.add_argument("--threads", type=positive, default=available_cores(), help="default: all cores")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--reading", choices=["released"], default="released", help="what both sides train")
    args = parser.parse_args()

    torch_python = ensure_torch_python(args.torch_python)
    use_threads(args.threads)
    # Only now: importing JAX starts its threads.
    from benchmarks.jax_step import make_jax_step

    result = compare(make_jax_step, torch_python, args.batch, args.patch, args.threads, args.rounds)
    print(
        f"one training step, {args.reading} reading, batch {args.batch} of {args.patch}x{args.patch}, "
        f"{args.threads} threads, {args.rounds} rounds"
    )
    print(format_table(result))


if __name__ == "__main__":
    main()
