"""Times one of our training steps against an equal one in PyTorch: same network, losses, parameters and batch.

    python benchmarks/train_step.py --batch 16 --patch 128

The two sides are separate processes and take turns, one step each per round, so that both feel a machine that slows
down; the waiting side is idle. Use an idle machine nevertheless: beside other work PyTorch, whose threads wait for each
other after every operation, was seen to take four times as long, and JAX need not slow down by the same factor.

The PyTorch step (`torch_rpfnet.py`) was written for this comparison and omits the attention that the released network
computes and drops. JAX compiles before the first round; that time is reported separately. Both sides keep freed memory:
PyTorch by `MALLOC_SETTINGS`, ours by `prepare_process`, as in `train.py`. As there, each core is a JAX device and the
devices share the batch; PyTorch's threads share every operation.

The last line is `ratio R`, the median time of PyTorch over ours: above 1 where JAX is faster.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jax_step import CompiledStep
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.runtime import prepare_process
from rpfnet_jax.weights import to_torch
from shared import peak_rss_bytes
from torch_side import TorchProcess, add_torch_arguments, ensure_torch_python, positive, use_threads

READING = "released"
# Relative tolerances of the first two losses. The first is the forward pass alone. The second follows one Adam step,
# which turns the rounding of the smallest gradients into full steps (2e-5); a decoder that does not train would differ
# by 1.6e-3.
LOSS_TOLERANCES = (1e-4, 5e-4)


@dataclass(frozen=True)
class Side:
    """The measurements of one side."""

    name: str
    seconds: list[float]
    first_losses: list[float]
    peak_bytes: int
    compile_seconds: float | None = None

    def row(self) -> str:
        """Formats one line of the table."""
        times = f"{min(self.seconds):9.3f}{statistics.median(self.seconds):10.3f}{max(self.seconds):9.3f}"
        compiling = "-" if self.compile_seconds is None else f"{self.compile_seconds:.1f}"
        losses = " ".join(f"{loss:.6f}" for loss in self.first_losses)
        return f"{self.name:8}{times}{compiling:>11}{self.peak_bytes / 2**20:10.0f}  {losses}"


def torch_parameters(step: CompiledStep) -> dict[str, np.ndarray]:
    """Returns the parameters under torch's names and layouts; those of the auxiliary decoder begin with `aux.`."""
    fusion, auxiliary = (to_torch({"params": step.state.params[part]}) for part in ("fusion", "auxiliary"))
    # The PyTorch side has no attention in the residual branch, because the released network drops its result.
    kept = {name: value for name, value in fusion.items() if "_attention." not in name}
    return kept | {f"aux.{name}": value for name, value in auxiliary.items()}


def check_losses(jax_losses: list[float], torch_losses: list[float]) -> None:
    """Raises RuntimeError unless both sides computed the same losses in their first two steps."""
    for number, (ours, theirs, tolerance) in enumerate(
        zip(jax_losses, torch_losses, LOSS_TOLERANCES, strict=True), start=1
    ):
        # This form also refuses NaN.
        if not abs(ours - theirs) <= tolerance * abs(theirs):
            raise RuntimeError(f"the losses of step {number} differ: {ours} in JAX, {theirs} in PyTorch")


def compare(torch_python: Path, batch: int, patch: int, threads: int, rounds: int) -> tuple[Side, Side]:
    """Sets both sides up with the same parameters, checks that they agree, and times them in turn: PyTorch, JAX."""
    step = CompiledStep(ModelConfig.preset(READING), LossConfig.preset(READING), batch, patch)
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.npz"
        np.savez(params, allow_pickle=False, **torch_parameters(step))
        arguments = ["step", "--params", params, "--batch", batch, "--patch", patch, "--threads", threads]
        with TorchProcess(torch_python, *arguments) as worker:
            torch_losses = [float(loss) for loss in worker.read("ready")]
            jax_losses = [step() for _ in torch_losses]
            check_losses(jax_losses, torch_losses)
            torch_seconds, jax_seconds = [], []
            for _ in range(rounds):
                torch_seconds.append(float(worker.ask("step")[0]))
                start = time.perf_counter()
                step()
                jax_seconds.append(time.perf_counter() - start)
            return (
                Side("PyTorch", torch_seconds, torch_losses, worker.quit()),
                Side("JAX", jax_seconds, jax_losses, peak_rss_bytes(), step.compile_seconds),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_torch_arguments(parser)
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--patch", type=positive, default=128)
    args = parser.parse_args()

    torch_python = ensure_torch_python(args.torch_python)
    use_threads(args.threads)
    prepare_process()
    theirs, ours = compare(torch_python, args.batch, args.patch, args.threads, args.rounds)
    print(
        f"one training step, {READING} reading, batch {args.batch} of {args.patch}x{args.patch}, {args.threads} "
        f"threads, {args.rounds} rounds"
    )
    print(f"{'':8}{'min s':>9}{'median s':>10}{'max s':>9}{'compile s':>11}{'peak MiB':>10}  first losses")
    print(f"{theirs.row()}\n{ours.row()}")
    print(f"ratio {statistics.median(theirs.seconds) / statistics.median(ours.seconds):.2f}")


if __name__ == "__main__":
    main()
