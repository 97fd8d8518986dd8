"""Reports the temporary memory of the compiled training step for the options that reduce it; nothing is executed.

    python benchmarks/train_memory.py --batch=16 --patch=128

`temporary` is the memory that the program needs while it runs, besides parameters and batch, as
`Compiled.memory_analysis()` reports it.
"""

import argparse
import time

import jax

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import Compute, OptimizerConfig, create_state, make_networks, make_optimizer, make_train_step
from shared import fixed_batch

CHOICES = {
    "plain": Compute(),
    "remat": Compute(remat=True),
    "accumulate=2": Compute(accumulate=2),
    "accumulate=4": Compute(accumulate=4),
    "accumulate=4, remat": Compute(accumulate=4, remat=True),
    "bfloat16": Compute(precision="bfloat16"),
}


def temporary_bytes(model: ModelConfig, losses: LossConfig, compute: Compute, batch: int, patch: int) -> int:
    """Returns the bytes of temporary memory of one training step."""
    networks, optimizer = make_networks(model, losses.auxiliary), make_optimizer(OptimizerConfig(), total_steps=1000)
    state = create_state(networks, optimizer, seed=0)
    step = make_train_step(networks, losses, optimizer, compute)
    compiled = step.lower(state, *fixed_batch(batch, patch)).compile()  # type: ignore[attr-defined]
    return compiled.memory_analysis().temp_size_in_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--reading", choices=["paper", "released"], default="paper")
    args = parser.parse_args()

    print(f"{args.reading} reading, batch {args.batch} of {args.patch}x{args.patch}, {jax.default_backend()}")
    model = ModelConfig.preset(args.reading, channels=args.channels)
    for name, compute in CHOICES.items():
        start = time.perf_counter()
        size = temporary_bytes(model, LossConfig.preset(args.reading), compute, args.batch, args.patch)
        seconds = time.perf_counter() - start
        print(f"{name:20} temporary {size / 2**20:7.0f} MiB, compiled in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
