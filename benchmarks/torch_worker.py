"""The PyTorch process of the benchmarks: answers commands on standard input, one line each.

Runs in an environment that has only torch and NumPy. It writes `ready` when it is set up, and answers

- `step` (of `train_step.py`): makes one training step and writes its seconds. `ready` is followed by the losses of two
  warm-up steps.
- `fuse MODE FILE OUT` (of `inference.py`): fuses the arrays `ir` and `vis` of FILE (.npz, (B, H, W, 1)), saves the
  result as OUT (.npy) and writes the seconds. MODE is `image` (batch normalisation in training mode, one image at a
  time, as in the authors' script) or `running` (eval mode).
- `quit`: writes `peak_rss_bytes N` and ends.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from shared import fixed_batch, peak_rss_bytes
from torch_rpfnet import FusionNetwork, Trainer, train_step

WARM_UP_STEPS = 2


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Converts NHWC with one channel to NCHW."""
    return torch.tensor(image).permute(0, 3, 1, 2).contiguous()


def make_step(params: Path, batch: int, patch: int) -> Callable[[], float]:
    """Sets up training on a fixed batch, writes `ready` with the warm-up losses, and returns the timed step."""
    trainer = Trainer()
    with np.load(params) as parameters:
        trainer.load(parameters)
    visible, infrared = (to_tensor(side).float() / 255 for side in fixed_batch(batch, patch))
    losses = [train_step(trainer, visible, infrared) for _ in range(WARM_UP_STEPS)]
    print("ready", *(f"{loss:.9g}" for loss in losses), flush=True)

    def step() -> float:
        start = time.perf_counter()
        train_step(trainer, visible, infrared)
        return time.perf_counter() - start

    return step


def make_fuse(params: Path) -> Callable[[str, str, str], float]:
    """Loads the network, writes `ready`, and returns the timed fusion."""
    network = FusionNetwork()
    with np.load(params) as tensors:
        missing, unexpected = network.load_state_dict(
            {name: torch.tensor(tensors[name]) for name in tensors.files}, strict=False
        )
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    stored = {name: value.clone() for name, value in network.state_dict().items()}
    print("ready", flush=True)

    def fuse(mode: str, source: str, target: str) -> float:
        # Training mode changes the running statistics, so they are restored each time.
        network.load_state_dict(stored)
        network.train(mode == "image")
        with np.load(source) as arrays:
            visible, infrared = (to_tensor(arrays[side]) for side in ("vis", "ir"))
        with torch.inference_mode():
            start = time.perf_counter()
            if mode == "image":
                pairs = zip(visible.split(1), infrared.split(1), strict=True)
                fused = torch.cat([network(*pair)[0] for pair in pairs])
            else:
                fused = network(visible, infrared)[0]
            seconds = time.perf_counter() - start
        np.save(target, fused.permute(0, 2, 3, 1).numpy())
        return seconds

    return fuse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["step", "fuse"], help="the command that this process will get")
    parser.add_argument("--params", type=Path, required=True, help=".npz of the parameters, torch name to array")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, default=16, help="of `step`")
    parser.add_argument("--patch", type=int, default=128, help="of `step`")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    timed = make_step(args.params, args.batch, args.patch) if args.command == "step" else make_fuse(args.params)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "quit":
            break
        if command != args.command:
            raise ValueError(f"expected {args.command!r} or 'quit', got {command!r}")
        print(f"{timed(*words):.6f}", flush=True)
    print("peak_rss_bytes", peak_rss_bytes(), flush=True)


if __name__ == "__main__":
    main()
