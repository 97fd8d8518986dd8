"""Data parallelism: one mesh axis over which batches are spread, everything else is on every device.

Through `jax.shard_map`, where each device runs the step on its share and the reductions are written down: norm
statistics, batch-wide terms of the losses, gradients. Under a plain `jit` of sharded arrays every FFT gathers the whole
batch on every device.

With several processes (`processes.py`) the axis goes over the devices of all of them, one process after the other, so
that each has consecutive rows of a batch.
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
        devices: how many, of all processes together and equally many of each; "auto": as many of those that there are
            as divide the microbatch. 1: no data parallelism.
        microbatch: patches that are computed at once: the batch, or what `Compute.accumulate` makes of it.

    Returns:
        A mesh with the one axis `AXIS`; None for a single device.

    Raises:
        ValueError: there are not as many devices, or the microbatch can't be divided among them.
    """
    processes, local = jax.process_count(), jax.local_device_count()
    available = processes * local
    if devices == "auto":
        counts = [count for count in range(processes, available + 1, processes) if microbatch % count == 0]
        if not counts:
            raise ValueError(
                f"{microbatch} patches computed at once (batch_size / compute.accumulate) can't be divided among "
                f"{processes} processes"
            )
        devices = counts[-1]
    if type(devices) is not int or devices < 1:
        raise ValueError(f'mesh.data must be "auto" or a positive number of devices, got {devices!r}')
    if devices > available:
        raise ValueError(f"mesh.data is {devices}, but there are only {available} {jax.default_backend()} device(s)")
    if devices % processes:
        raise ValueError(f"mesh.data is {devices}, which can't be divided among {processes} processes")
    if microbatch % devices:
        raise ValueError(
            f"mesh.data is {devices}, which does not divide the {microbatch} patches computed at once (batch_size / "
            "compute.accumulate)"
        )
    if devices == 1:
        return None
    chosen = [device for process in range(processes) for device in jax.local_devices(process)[: devices // processes]]
    if len(chosen) < devices:
        raise ValueError(f"mesh.data is {devices}, but some process has fewer devices than this one ({local})")
    return Mesh(np.array(chosen), (AXIS,))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """The same arrays on every device of the mesh; as they are without one. Every process gives all of them."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)


def local_rows(length: int, mesh: Mesh | None) -> slice:
    """The rows of a batch of `length` patches that this process's devices compute: its share, or all of them."""
    if mesh is None or length % mesh.size:
        return slice(0, length)
    share = length // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def spread(rows: np.ndarray, length: int, mesh: Mesh | None) -> Any:
    """A batch of `length` patches on the devices of the mesh, of which this process gives its `local_rows`."""
    if mesh is None:
        return rows
    spec = PartitionSpec() if length % mesh.size else PartitionSpec(AXIS)
    return jax.make_array_from_process_local_data(NamedSharding(mesh, spec), rows, (length, *rows.shape[1:]))
