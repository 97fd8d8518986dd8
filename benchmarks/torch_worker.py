"""The PyTorch process of `train_step.py`: one train step per line `step` on standard input, until `quit`.

Runs under an environment that holds only torch and NumPy. What it writes, one line each:
`ready L1 L2` after two warm-up steps (their losses), the seconds of each step, and at the end
`peak_rss_bytes N`.
"""

import argparse
import sys
import time

import numpy as np
import torch
from fixed_batch import fixed_batch
from peak_memory import peak_rss_bytes
from torch_rpfnet import Trainer, train_step

WARM_UP_STEPS = 2


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 NHWC with one channel to float32 NCHW in [0, 1]."""
    return torch.from_numpy(image).permute(0, 3, 1, 2).contiguous().float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=None, help="default: as torch decides")
    parser.add_argument("--params", default=None, help=".npz of initial parameters, torch name to array")
    args = parser.parse_args()

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    trainer = Trainer()
    if args.params is not None:
        with np.load(args.params) as parameters:
            trainer.load(parameters)
    visible, infrared = map(to_tensor, fixed_batch(args.batch, args.patch))

    losses = [train_step(trainer, visible, infrared) for _ in range(WARM_UP_STEPS)]
    print("ready", *(f"{loss:.9g}" for loss in losses), flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "quit":
            break
        if command != "step":
            raise ValueError(f"expected 'step' or 'quit', got {command!r}")
        start = time.perf_counter()
        train_step(trainer, visible, infrared)
        print(f"{time.perf_counter() - start:.6f}", flush=True)
    print("peak_rss_bytes", peak_rss_bytes(), flush=True)


if __name__ == "__main__":
    main()
