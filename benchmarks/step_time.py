"""Times our training step by batch size and number of stages, and profiles it.

    python benchmarks/step_time.py --batches 4 8 16 --stages 1 3
    python benchmarks/step_time.py --profile --batches 16 --reading released

Writes Markdown. A profile lists the summed times of operations. Two operations that ran at once on two cores both count
in full, so the sum is larger than the duration of the step.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import re
import statistics
import tempfile
import time
from pathlib import Path

import jax

from jax_step import CompiledStep
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.runtime import prepare_process
from torch_side import add_timing_arguments, positive, use_threads

_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.-]+) = .+? [\w-]+\(")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


def profile_table(trace: Path, hlo: str) -> str:
    """Sums a profiler trace up by kind of operation and formats a Markdown table, largest first.

    Args:
        trace: the folder that `jax.profiler.trace(..., create_perfetto_trace=True)` wrote.
        hlo: text of the compiled program; its metadata name the source of each operation.

    Raises:
        FileNotFoundError: the folder holds no trace.
    """
    sources = {}
    for line in hlo.splitlines():
        if instruction := _INSTRUCTION.match(line):
            source = _OP_NAME.search(line)
            sources[instruction[1]] = source[1] if source else ""
    files = sorted(trace.rglob("perfetto_trace.json.gz"))
    if not files:
        raise FileNotFoundError(f"no perfetto_trace.json.gz under {trace}")
    with gzip.open(files[-1]) as file:
        events = json.load(file)["traceEvents"]
    operations = [event for event in events if event.get("ph") == "X" and "hlo_op" in event.get("args", {})]
    totals: collections.Counter[str] = collections.Counter()
    for event in operations:
        totals[_kind(event["name"], sources.get(event["name"], ""))] += event["dur"]
    start = min(event["ts"] for event in operations)
    end = max(event["ts"] + event["dur"] for event in operations)
    everything = sum(totals.values())
    rows = [f"| {kind} | {micros / 1000:.0f} ms | {micros / everything:.0%} |" for kind, micros in totals.most_common()]
    summary = f"| all; the step took {(end - start) / 1000:.0f} ms | {everything / 1000:.0f} ms | 100% |"
    return "\n".join(["| operations | summed time | share |", "|---|---|---|", *rows, summary])


def _kind(operation: str, source: str) -> str:
    backward = "transpose(jvp" in source
    way = "backward" if backward else "forward"
    if "RPFNet" not in source and "AuxiliaryDecoder" not in source:
        return "losses, optimizer, operations without a source"
    if "jit(fft)" in source:
        return "FDFM: transforms"
    if "/branch_" in source and "/frequency/" not in source:
        return "kernel gradients"
    if "conv_general_dilated" in source:
        return f"convolutions, {'input gradients' if backward else way}"
    if "/frequency/" in source or ("/fdfm/" in source and "/local/" not in source):
        return "FDFM: 1x1 convolution, norm and reordering of spectra"
    if "dot_general" in source:
        return f"1x1 convolutions, {way}"
    if "/norm/" in source:
        return f"norms, {way}"
    return f"activations, sums, attention, {way}"


def compile_step(reading: str, batch: int, stages: int, patch: int) -> CompiledStep:
    """Compiles a step and calls it once, so that the timed calls find their memory already allocated."""
    step = CompiledStep(ModelConfig.preset(reading, stages=stages), LossConfig.preset(reading), batch, patch)
    step()
    return step


def timing_row(step: CompiledStep, batch: int, stages: int, rounds: int) -> str:
    """Times a step and formats one line of the table."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    median, temporary = statistics.median(seconds), step.compiled.memory_analysis().temp_size_in_bytes
    times = f"{median:.2f} s | {min(seconds):.2f} s | {1000 * median / batch:.0f} ms"
    return f"| {batch} | {stages} | {times} | {temporary / 2**20:.0f} MiB |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reading", choices=["paper", "released"], default="paper")
    parser.add_argument("--batches", type=positive, nargs="+", default=[4, 8, 16])
    parser.add_argument("--stages", type=positive, nargs="+", default=[3], help="N")
    parser.add_argument("--patch", type=positive, default=128)
    add_timing_arguments(parser)
    parser.add_argument("--profile", action="store_true", help="profile a step of the first batch and N")
    args = parser.parse_args()

    use_threads(args.threads)
    prepare_process()
    if args.profile:
        step = compile_step(args.reading, args.batches[0], args.stages[0], args.patch)
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder, create_perfetto_trace=True):
                step()
            print(profile_table(Path(folder), step.compiled.as_text()))
        return
    print("| batch | N | median | best | per patch | temporary memory, each device |\n|---|---|---|---|---|---|")
    for stages in args.stages:
        for batch in args.batches:
            step = compile_step(args.reading, batch, stages, args.patch)
            print(timing_row(step, batch, stages, args.rounds), flush=True)


if __name__ == "__main__":
    main()
