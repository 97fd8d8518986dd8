"""Checks and times this project on a GPU; for the first person with one. Ten minutes; writes one Markdown report.

    python benchmarks/gpu_first_run.py                      # writes gpu_report.md
    python benchmarks/gpu_first_run.py --weights=Model.pth  # with the authors' weights as well

- images of the shipped weights in both precisions against those of this machine's CPU in float32;
- the same short training on GPU and CPU: L_total of the last steps within 2 %, and how long the GPU was idle meanwhile;
- seconds of a training step and of inference, and the memory taken;
- both in PyTorch on the same card, where this Python has torch with CUDA.

Exits with 1 if a check fails. Without a GPU everything runs on the CPU, which shows that the script works.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# PyTorch needs room beside JAX, and the peak of what is in use shall be what was needed.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np

from rpfnet_jax.data.images import read_gray
from rpfnet_jax.data.patches import PatchSource, crop_plan
from rpfnet_jax.inference import Fuser, engine
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.scenes.scene import write_scenes
from rpfnet_jax.training import Callbacks, Intervals, OptimizerConfig, StepConfig, TrainingPlan, train
from rpfnet_jax.training.monitor import read_scalars
from rpfnet_jax.weights import Weights, load_weights

PARITY = {"float32": 1e-4, "tf32": 2e-2}
LOSS_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        model, losses: what the short training trains.
        steps: its length; the last tenth is compared.
        batch, patch: its patches, and their side in pixels.
        size: height and width of the images that are fused.
        timed: calls that are timed; 0: no timing.
    """

    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    steps: int = 200
    batch: int = 4
    patch: int = 64
    size: tuple[int, int] = (480, 640)
    timed: int = 20


class Report:
    """Lines of Markdown, and the checks that failed."""

    def __init__(self, title: str) -> None:
        self.lines = [f"# {title}", ""]
        self.failed: list[str] = []

    def table(self, title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """Adds a section with one table, and shows it at once."""
        lines = [f"## {title}", "", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
        lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
        print("\n".join(lines), flush=True)
        self.lines += [*lines, ""]

    def check(self, what: str, good: bool) -> str:
        """Returns the word for a check's result, and notes it where it failed."""
        if not good:
            self.failed.append(what)
        return "good" if good else "**FAILED**"


def parity(report: Report, named: dict[str, Weights], images: tuple[np.ndarray, np.ndarray]) -> None:
    """Compares images of the default device with those of the CPU."""
    rows = []
    for name, weights in named.items():
        with jax.default_device(jax.devices("cpu")[0]):
            expected = Fuser(weights).fuse(*images, dtype="float32")
        # The compiled programs are kept without their device.
        engine.compile_program.cache_clear()
        for precision, tolerance in PARITY.items():
            fused = Fuser(weights, precision=precision).fuse(*images, dtype="float32")  # type: ignore[arg-type]
            error = float(np.abs(fused - expected).max())
            levels = np.abs(np.rint(255 * fused) - np.rint(255 * expected))
            result = report.check(f"parity of {name} in {precision}", error <= tolerance)
            rows.append((name, precision, f"{error:.1e}", f"{levels.max():.0f}", f"{(levels > 0).mean():.2%}", result))
    header = ("weights", "precision", "largest difference", "in grey levels", "pixels that differ", "check")
    report.table("Images against the CPU's in float32", header, rows)


def short_training(report: Report, plan: Plan, folder: Path) -> None:
    """Trains on the default device, profiled, and on the CPU, and compares the loss."""
    pairs = write_scenes(folder / "scenes", 8)
    height, width = read_gray(pairs[0].vis).shape
    source = PatchSource(pairs, crop_plan([(height, width)] * len(pairs), 64, plan.patch, 0), plan.patch)
    run = TrainingPlan(
        model=plan.model,
        losses=plan.losses,
        optimizer=OptimizerConfig(),
        step=StepConfig(),
        total_steps=plan.steps,
        batch_size=plan.batch,
        seed=0,
        intervals=Intervals(),
        monitor="none",
    )

    def mean_loss(name: str) -> float:
        train(run, source, folder / name, {}, Callbacks(lambda variables: {"none": 0.0}))
        totals = [value for _, value in read_scalars(folder / name)["train/total"]]
        return statistics.mean(totals[-max(plan.steps // 10, 1) :])

    # Python's own calls, of which tracing makes millions, would leave no room for the device's operations.
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(str(folder / "trace"), create_perfetto_trace=True, profiler_options=options):
        ours = mean_loss("device")
    with jax.default_device(jax.devices("cpu")[0]):
        reference = mean_loss("cpu")
    apart = abs(ours - reference) / abs(reference)
    result = report.check("L_total of the short training", apart <= LOSS_TOLERANCE)
    last = f"mean L_total of the last {max(plan.steps // 10, 1)} of {plan.steps} steps"
    rows = [
        (last, f"{ours:.4f}; CPU {reference:.4f}; {apart:.2%} apart", result),
        ("share of the time between first and last step in which no operation ran", f"{idle_share(folder):.0%}", ""),
    ]
    report.table(f"Training, {plan.batch} patches of {plan.patch}x{plan.patch}", ("what", "value", "check"), rows)


def idle_share(folder: Path) -> float:
    """Returns the share of the time between the first and the last training step in which none of its operations ran.

    Raises:
        ValueError: the profile holds no training step.
    """
    with gzip.open(next(folder.rglob("perfetto_trace.json.gz"))) as file:
        events = json.load(file)["traceEvents"]
    spans = sorted(
        (event["ts"], event["ts"] + event["dur"])
        for event in events
        if event.get("ph") == "X" and "train_step" in str(event.get("args", {}).get("hlo_module", ""))
    )
    if not spans:
        raise ValueError("the profile holds no operation of a training step")
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(stop - max(start, end), 0)
        end = max(end, stop)
    return 1 - busy / (end - spans[0][0])


def median_ms(function: Callable[[], Any], calls: int) -> float:
    """Calls a function that waits for its result, once to warm up and then `calls` times."""
    function()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def timing(report: Report, plan: Plan, weights: Weights) -> None:
    """Times a step of the released reading and inference, ours and PyTorch's."""
    from jax_step import CompiledStep

    batch, patch = 16, 128
    step = CompiledStep(ModelConfig.preset("released"), LossConfig.preset("released"), batch, patch)
    rows = [(f"training step, {batch} x {patch}x{patch}", f"{median_ms(step, plan.timed):.1f} ms")]
    for norm in ("image", "running"):
        for count in (1, 8):
            images = np.random.default_rng(0).random((2, count, *plan.size, 1), np.float32)
            net = Fuser(weights, norm)  # type: ignore[arg-type]
            taken = median_ms(lambda net=net, images=images: np.asarray(net.fuse_luminance(*images)), plan.timed)
            rows.append((f"inference, {norm}, {count} x {plan.size[1]}x{plan.size[0]}", f"{taken:.1f} ms"))
    statistics_of = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics_of:
        rows.append(("largest memory in use", f"{statistics_of['peak_bytes_in_use'] / 2**20:.0f} MiB"))
    report.table("Time, with the transfer of images, and memory", ("what", "ours"), rows)
    theirs = torch_times(plan, batch, patch)
    if isinstance(theirs, str):
        report.lines += [f"PyTorch: {theirs}.", ""]
    else:
        report.table("The same in PyTorch", ("what", "PyTorch"), theirs)


def torch_times(plan: Plan, batch: int, patch: int) -> list[tuple[str, str]] | str:
    """Times the authors' network in PyTorch on the GPU; returns the reason where that is impossible."""
    if importlib.util.find_spec("torch") is None:
        return "not installed in this Python"
    import torch

    if not torch.cuda.is_available():
        return "finds no GPU"
    from shared import fixed_batch
    from torch_rpfnet import Trainer, train_step

    trainer = Trainer()
    trainer.network.cuda()
    trainer.auxiliary.cuda()

    def tensor(image: np.ndarray) -> Any:
        return torch.tensor(image).permute(0, 3, 1, 2).contiguous().cuda()

    visible, infrared = (tensor(side).float() / 255 for side in fixed_batch(batch, patch))
    # It returns the loss as a number, and so waits for the step.
    taken = median_ms(lambda: train_step(trainer, visible, infrared), plan.timed)
    rows = [(f"training step, {batch} x {patch}x{patch}, TF32 convolutions", f"{taken:.1f} ms")]
    with torch.inference_mode():
        for count in (1, 8):
            images = np.random.default_rng(0).random((2, count, *plan.size, 1), np.float32)
            trainer.network.eval()
            taken = median_ms(lambda images=images: trainer.network(*map(tensor, images))[0].cpu(), plan.timed)
            rows.append((f"inference, running, {count} x {plan.size[1]}x{plan.size[0]}", f"{taken:.1f} ms"))
    return rows


def first_run(plan: Plan, named: dict[str, Weights], out: Path) -> list[str]:
    """Does everything, writes the report and returns the checks that failed."""
    device = jax.devices()[0]
    report = Report(f"rpfnet_jax on {device.device_kind}")
    report.lines += [f"JAX {jax.__version__}, platform {device.platform}, {jax.device_count()} device(s).", ""]
    with tempfile.TemporaryDirectory() as folder:
        pair = write_scenes(Path(folder) / "pair", 1, 5, *plan.size)[0]
        parity(report, named, (read_gray(pair.ir), read_gray(pair.vis)))
        short_training(report, plan, Path(folder))
    if plan.timed:
        timing(report, plan, next(iter(named.values())))
    report.lines.append("Failed: " + "; ".join(report.failed) if report.failed else "All checks are good.")
    out.write_text("\n".join(report.lines) + "\n")
    return report.failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="weights to compare beside the shipped ones, such as Model.pth")
    parser.add_argument("--out", type=Path, default=Path("gpu_report.md"), help="the report (default: %(default)s)")
    args = parser.parse_args()
    named = {name: load_weights(name) for name in ("flir", "flir_plus")}
    if args.weights is not None:
        named[args.weights.name] = load_weights(args.weights)
    failed = first_run(Plan(), named, args.out)
    print(f"{args.out}: {', '.join(failed) or 'all checks are good'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
