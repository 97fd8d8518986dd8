"""The cores of this machine that a process may use, and JAX's use of them."""

from __future__ import annotations

import os

import jax

# Each device holds a copy of the parameters, and more were not measured.
_MOST_CPU_DEVICES = 8


def available_cores() -> int:
    """How many this process may use: on a shared machine fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def offer_cores() -> bool:
    """Makes the CPU as many devices as this process has cores, at most 8, to share batches among.

    A single device runs one operation after the other and waits, after each, for the slowest of its threads. Two
    devices fill each other's waits (docs/step-time.md). Other backends keep their devices. It concerns the whole
    process, so it is for programs: `train.py` and the studies call it, `import rpfnet_jax` does not.

    Returns:
        Whether it was done. Not if JAX has run something, and a number that the user gave stays:
        `JAX_NUM_CPU_DEVICES` or `XLA_FLAGS=--xla_force_host_platform_device_count`.
    """
    given = jax.config.jax_num_cpu_devices >= 0  # type: ignore[attr-defined]
    if given or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return False
    try:
        jax.config.update("jax_num_cpu_devices", min(available_cores(), _MOST_CPU_DEVICES))
    except RuntimeError:  # JAX has run something.
        return False
    return True
