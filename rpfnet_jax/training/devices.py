"""Data parallelism: one mesh axis over which batches are spread, everything else is on every device.

Through `jax.shard_map`, where each device runs the step on its share and the reductions are written down: norm
statistics, batch-wide terms of the losses, gradients. Under a plain `jit` of sharded arrays every FFT gathers the whole
batch on every device.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "data"

Devices = int | Literal["auto"]


def make_mesh(devices: Devices, microbatch: int) -> Mesh | None:
    """The devices of a run.

    Args:
        devices: how many; "auto": as many of those that there are as divide the microbatch. 1: no data parallelism.
        microbatch: patches that are computed at once: the batch, or what `Compute.accumulate` makes of it.

    Returns:
        A mesh with the one axis `AXIS`; None for a single device.

    Raises:
        ValueError: there are not as many devices, or the microbatch can't be divided among them.
    """
    available = jax.local_device_count()
    if devices == "auto":
        devices = max(count for count in range(1, available + 1) if microbatch % count == 0)
    if type(devices) is not int or devices < 1:
        raise ValueError(f'mesh.data must be "auto" or a positive number of devices, got {devices!r}')
    if devices > available:
        raise ValueError(f"mesh.data is {devices}, but there are only {available} {jax.default_backend()} device(s)")
    if microbatch % devices:
        raise ValueError(
            f"mesh.data is {devices}, which does not divide the {microbatch} patches computed at once (batch_size / "
            "compute.accumulate)"
        )
    return None if devices == 1 else Mesh(np.array(jax.local_devices()[:devices]), (AXIS,))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """The same arrays on every device of the mesh; as they are without one."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
