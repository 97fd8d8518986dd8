"""One training step of ours against an equal one in PyTorch: same network, losses, parameters and batch.

    python benchmarks/train_step.py --batch 16 --patch 128

Both sides run in processes of their own and take turns, one step each per round, so that a drifting machine
slows both; the side that waits is idle. Run it on an idle machine all the same: with other work on its cores
PyTorch, whose threads wait for each other after every operation, was seen to take four times as long, and
nothing says that JAX slows by the same factor.

The PyTorch step (`torch_rpfnet.py`) was written for this comparison and skips what the released network
computes and drops. JAX compiles before the first round; that time is reported apart. Both sides keep freed
memory: PyTorch by `MALLOC_SETTINGS`, ours by `rpfnet_jax.runtime.keep_freed_memory`, as `train.py` does. And as
there the cores are devices of JAX that share the batch; PyTorch's threads share every operation.

The JAX side is `make_jax_step(batch, patch)` of `jax_step.py`; what it returns is said at `JaxStep` below.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from rpfnet_jax.runtime import keep_freed_memory, offer_cores

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
        arguments = ["--params", params, "--batch", batch, "--patch", patch, "--threads", threads]
        with TorchProcess(torch_python, "torch_worker.py", *arguments) as worker:
            torch_losses = [float(loss) for loss in worker.read("ready")]
            jax_losses = [jax_step() for _ in range(WARM_UP_STEPS)]
            check_losses(jax_losses, torch_losses)
            torch_seconds, jax_seconds = [], []
            for _ in range(rounds):
                torch_seconds.append(float(worker.ask("step")[0]))
                start = time.perf_counter()
                jax_step()
                jax_seconds.append(time.perf_counter() - start)
            return Comparison(
                torch_seconds=torch_seconds,
                jax_seconds=jax_seconds,
                torch_peak_bytes=worker.quit(),
                jax_peak_bytes=peak_rss_bytes(),
                jax_compile_seconds=compile_seconds,
                torch_losses=torch_losses,
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_arguments(parser)
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--patch", type=positive, default=128)
    parser.add_argument("--reading", choices=["released"], default="released", help="what both sides train")
    args = parser.parse_args()

    torch_python = ensure_torch_python(args.torch_python)
    use_threads(args.threads)
    keep_freed_memory()
    offer_cores()
    # Only now, when the cores are chosen.
    from benchmarks.jax_step import make_jax_step

    result = compare(make_jax_step, torch_python, args.batch, args.patch, args.threads, args.rounds)
    print(
        f"one training step, {args.reading} reading, batch {args.batch} of {args.patch}x{args.patch}, "
        f"{args.threads} threads, {args.rounds} rounds"
    )
    print(format_table(result))


if __name__ == "__main__":
    main()
