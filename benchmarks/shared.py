"""Helpers that both environments import, ours and PyTorch's: they need NumPy and the standard library only."""

import resource
import sys
from pathlib import Path

import numpy as np


def fixed_batch(batch: int, patch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns (visible luminance, infrared), uint8 NHWC of shape (batch, patch, patch, 1).

    The values are 8-bit, as in a training batch; both sides divide by 255. They are noise, because the cost of a step
    does not depend on the content of the images.
    """
    generator = np.random.default_rng(seed)
    visible, infrared = generator.integers(0, 256, size=(2, batch, patch, patch, 1), dtype=np.uint8)
    return visible, infrared


def peak_rss_bytes() -> int:
    """Returns the largest resident set that this process has had so far."""
    # On Linux ru_maxrss is not usable: a new process inherits it from its parent, so that a small worker of a large
    # process would report the parent's value.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
