"""The PyTorch process of `inference.py`. Runs under an environment that holds only torch and NumPy.

Writes `ready`, then answers each line of standard input:
`fuse MODE FILE OUT`: fuses the arrays `ir` and `vis` of FILE (.npz, (B, H, W, 1)), writes the result to OUT (.npy) and
answers with the seconds it took; MODE is `image` (batch normalisation in training mode, one picture at a time, as the
authors publish) or `running` (eval mode). `quit`: answers `peak_rss_bytes N` and ends.
"""

import argparse
import sys
import time

import numpy as np
import torch
from peak_memory import peak_rss_bytes
from torch_rpfnet import FusionNetwork


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", required=True, help=".npz of all tensors, torch name to array")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    network = FusionNetwork()
    with np.load(args.params) as tensors:
        missing, unexpected = network.load_state_dict(
            {name: torch.tensor(tensors[name]) for name in tensors.files}, strict=False
        )
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    stored = {name: value.clone() for name, value in network.state_dict().items()}

    print("ready", flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "quit":
            break
        mode, source, target = words
        # Training mode moves the running statistics.
        network.load_state_dict(stored)
        network.train(mode == "image")
        with np.load(source) as arrays:
            visible, infrared = (torch.tensor(arrays[side]).permute(0, 3, 1, 2).contiguous() for side in ("vis", "ir"))
        with torch.inference_mode():
            start = time.perf_counter()
            if mode == "image":
                pairs = zip(visible.split(1), infrared.split(1), strict=True)
                fused = torch.cat([network(*pair)[0] for pair in pairs])
            else:
                fused = network(visible, infrared)[0]
            seconds = time.perf_counter() - start
        np.save(target, fused.permute(0, 2, 3, 1).numpy())
        print(f"{seconds:.6f}", flush=True)
    print("peak_rss_bytes", peak_rss_bytes(), flush=True)


if __name__ == "__main__":
    main()
