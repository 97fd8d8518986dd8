"""How long one of our training steps takes, by batch size and number of stages, and where the time goes.

    python benchmarks/step_time.py --batches 4 8 16 --stages 1 3
    python benchmarks/step_time.py --profile --batches 16 --reading released

Writes Markdown. A profile names the operations' summed times: two that ran at once on two cores count both, so that
the sum is larger than the step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

# Run as a script, the folder of this file is on the path and the package is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.torch_side import add_timing_arguments, positive, use_threads
from rpfnet_jax.runtime import keep_freed_memory, offer_cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reading", choices=["paper", "released"], default="paper")
    parser.add_argument("--batches", type=positive, nargs="+", default=[4, 8, 16])
    parser.add_argument("--stages", type=positive, nargs="+", default=[3], help="N")
    parser.add_argument("--patch", type=positive, default=128)
    add_timing_arguments(parser)
    parser.add_argument("--profile", action="store_true", help="where the time goes, of the first batch and N")
    args = parser.parse_args()

    use_threads(args.threads)
    keep_freed_memory()
    offer_cores()
    # Only now, when the cores are chosen.
    import jax

    from benchmarks.jax_step import CompiledStep
    from benchmarks.step_profile import profile_table
    from rpfnet_jax.losses import LossConfig
    from rpfnet_jax.model import ModelConfig

    def compile_step(batch: int, stages: int) -> CompiledStep:
        model = ModelConfig.preset(args.reading, stages=stages)
        step = CompiledStep(model, LossConfig.preset(args.reading), batch, args.patch)
        step()  # The first one takes the memory that the others find.
        return step

    if args.profile:
        step = compile_step(args.batches[0], args.stages[0])
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder, create_perfetto_trace=True):
                step()
            print(profile_table(Path(folder), step.compiled.as_text()))
        return
    print("| batch | N | median | best | per patch | temporary memory, each device |\n|---|---|---|---|---|---|")
    for stages in args.stages:
        for batch in args.batches:
            step = compile_step(batch, stages)
            seconds = []
            for _ in range(args.rounds):
                start = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - start)
            median, temporary = statistics.median(seconds), step.compiled.memory_analysis().temp_size_in_bytes
            times = f"{median:.2f} s | {min(seconds):.2f} s | {1000 * median / batch:.0f} ms"
            print(f"| {batch} | {stages} | {times} | {temporary / 2**20:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
