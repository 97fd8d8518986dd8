"""The devices of a run, and how each step's patches get there.

Patches are either cut on the host and sent, or cut by the step itself from images that stay on the devices. Order,
position and every bit of the patches are the same both ways (those of `rpfnet_jax.data.patches.batches`), so that a run
may be continued the other way.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int32, UInt8

from rpfnet_jax.data.patches import TRANSFORMS, Batch, PatchSource, apply_transform, batches
from rpfnet_jax.training.parallel import any_process
from rpfnet_jax.training.step import AXIS

Devices = int | Literal["auto"]
Residence = Literal["auto", "on", "off"]

# Patches of 128x128 that a GPU should have at least: with fewer, the reductions between GPUs take longer than the
# others save (computed, docs/performance.md).
_LEAST_PATCHES_PER_GPU = 8
# Share of a device's memory that resident images may take under "auto": the steps need the rest.
_SHARE = 1 / 4
# Of one side: JAX indexes with 32 bits.
_MOST_PIXELS = np.iinfo(np.int32).max


# ------------------------------------------------------------------------------------------------------------- Devices


def make_mesh(devices: Devices, microbatch: int) -> Mesh | None:
    """Chooses the devices of a run, equally many of each process; returns None for a single device.

    The mesh has one axis, which goes through the processes one after the other: each has consecutive rows of a batch.

    Args:
        devices: how many in all; "auto": as many as there are and divide the microbatch, on GPUs only as many as have 8
            patches each (with a warning where that leaves GPUs without work).
        microbatch: patches computed at once, see `Compute.microbatch`.

    Raises:
        ValueError: there are not as many devices, or they can't share a microbatch equally.
    """
    processes, local = jax.process_count(), jax.local_device_count()
    patches = f"{microbatch} patches computed at once (batch_size / compute.accumulate)"
    if devices == "auto":
        counts = [n for n in range(processes, processes * local + 1, processes) if microbatch % n == 0]
        if not counts:
            raise ValueError(f"{patches} can't be divided among {processes} processes")
        devices = counts[-1]
        if jax.default_backend() == "gpu":
            devices = max([n for n in counts if microbatch // n >= _LEAST_PATCHES_PER_GPU], default=counts[0])
            if devices < processes * local:
                warnings.warn(
                    f"{devices} of {processes * local} GPUs share each batch: more would have fewer than "
                    f"{_LEAST_PATCHES_PER_GPU} of the {patches}; mesh.data sets their number",
                    stacklevel=2,
                )
    if type(devices) is not int or devices < 1:
        raise ValueError(f'mesh.data must be "auto" or a positive number of devices, got {devices!r}')
    if devices > processes * local:
        available = f"{processes * local} {jax.default_backend()} device(s)"
        raise ValueError(f"mesh.data is {devices}, but there are only {available}")
    if devices % processes:
        raise ValueError(f"mesh.data is {devices}, which can't be divided among {processes} processes")
    if microbatch % devices:
        raise ValueError(f"mesh.data is {devices}, which does not divide the {patches}")
    if devices == 1:
        return None
    chosen = [device for process in range(processes) for device in jax.local_devices(process)[: devices // processes]]
    if len(chosen) < devices:
        raise ValueError(f"mesh.data is {devices}, but some process has fewer devices than this one ({local})")
    return Mesh(np.array(chosen), (AXIS,))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """Puts the same arrays on every device of the mesh, or on the default device; each process gives all of them."""
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)


def local_rows(length: int, mesh: Mesh | None) -> slice:
    """Selects the rows of a batch that this process's devices compute: its share, or all where that is impossible."""
    if mesh is None or length % mesh.size:
        return slice(0, length)
    share = length // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def spread(rows: np.ndarray, length: int, mesh: Mesh | None) -> Any:
    """Puts a batch of `length` patches on the mesh's devices, given the `local_rows` of each process."""
    if mesh is None:
        return rows
    spec = PartitionSpec() if length % mesh.size else PartitionSpec(AXIS)
    return jax.make_array_from_process_local_data(NamedSharding(mesh, spec), rows, (length, *rows.shape[1:]))


# --------------------------------------------------------------------------------------------------------------- Feeds


class HostFeed:
    """Patches cut ahead of time by threads of the host; 2 * B * size * size bytes are sent for each step.

    Attributes:
        cut: for `Compute.cut`.
    """

    cut = None

    def __init__(self, source: PatchSource, mesh: Mesh | None):
        self._source, self._mesh = source, mesh

    def batches(self, batch_size: int, seed: int) -> grain.DatasetIterator:
        """Returns the iterator of `rpfnet_jax.data.patches.batches` over this process's rows."""
        return batches(self._source, batch_size, seed, lambda length: local_rows(length, self._mesh))

    def __call__(self, batch: Batch) -> tuple[Any, Any]:
        """Returns the step's two inputs beside its state."""
        length = len(batch["index"])
        return spread(batch["ir"], length, self._mesh), spread(batch["vis"], length, self._mesh)


class ResidentFeed:
    """Images that stay on the devices, all of them on each; only a batch's indices are sent, 4 * B bytes.

    Attributes and methods are those of `HostFeed`.
    """

    def __init__(self, source: PatchSource, mesh: Mesh | None):
        self._indices, self._mesh = _Indices(len(source)), mesh
        self._images = replicate(collect(source), mesh)
        self.cut = MeshCut(mesh)

    def batches(self, batch_size: int, seed: int) -> grain.DatasetIterator:
        return batches(self._indices, batch_size, seed)

    def __call__(self, batch: Batch) -> tuple[ResidentImages, Any]:
        index = batch["index"]
        if self._mesh is None:
            return self._images, jax.device_put(index)
        return self._images, spread(index[local_rows(len(index), self._mesh)], len(index), self._mesh)


class _Indices:
    """Stands in for a `PatchSource` whose patches are nothing but their index."""

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def take(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        return {"index": np.asarray(indices, np.int32)}


def make_feed(residence: Residence, source: PatchSource, mesh: Mesh | None) -> HostFeed | ResidentFeed:
    """Chooses between patches from the host and images on the devices.

    Args:
        residence: `on`, `off`, or `auto`: on accelerators whose memory is, as far as they report it, at least four
            times what the images take, in all processes.
        source: the patches.
        mesh: see `make_mesh`.

    Raises:
        ValueError: another word, or `on` with more pixels than can be indexed.
    """
    if residence not in get_args(Residence):
        raise ValueError(f'data.resident must be "auto", "on" or "off", got {residence!r}')
    devices = jax.local_devices()[:1] if mesh is None else mesh.local_devices
    if residence == "off" or (residence == "auto" and any_process(not fits(source, devices))):
        return HostFeed(source, mesh)
    return ResidentFeed(source, mesh)


def fits(source: PatchSource, devices: Sequence[Any]) -> bool:
    """Returns whether all of these `jax.Device`s are accelerators and the images take at most a quarter of each."""
    if any(device.platform == "cpu" for device in devices) or _count_pixels(source) > _MOST_PIXELS:
        return False
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in devices]
    return 2 * _count_pixels(source) <= _SHARE * min(limits)


# ----------------------------------------------------------------------------------- Cutting patches on the devices


class ResidentImages(NamedTuple):
    """A crop plan and its images, on the host or on a device.

    Attributes:
        pixels: IR and VIS luminance of all pairs, one after the other, row by row.
        crops: of each patch: where in `pixels` its first row begins, the width of its image, its transform.
        places: row and column within a crop of each pixel of the patch, for every transform.
    """

    pixels: UInt8[Any, "2 n"]
    crops: Int32[Any, "patches 3"]
    places: Int32[Any, "transforms size size 2"]


def collect(source: PatchSource) -> ResidentImages:
    """Collects plan and images of a source, on the host.

    Raises:
        ValueError: more pixels than can be indexed, or a crop that is not within its image.
    """
    if _count_pixels(source) > _MOST_PIXELS:
        raise ValueError(
            f"data.resident=on: the training images have {_count_pixels(source)} pixels, more than the {_MOST_PIXELS} "
            "that can be indexed on a device; use data.resident=off"
        )
    pair, top, left, transform = source.plan.T
    heights, widths = np.array([ir.shape for ir, _ in source.images], np.int32)[pair].T
    if ((top < 0) | (left < 0) | (top + source.size > heights) | (left + source.size > widths)).any():
        raise ValueError("the crop plan has crops that are not within their images")
    offsets = np.cumsum([0, *(ir.size for ir, _ in source.images[:-1])]).astype(np.int32)
    grid = np.moveaxis(np.indices((source.size, source.size), np.int32), 0, -1)
    return ResidentImages(
        np.concatenate([np.stack(sides).reshape(2, -1) for sides in source.images], axis=1),
        np.column_stack([offsets[pair] + top * widths + left, widths, transform]),
        np.stack([apply_transform(grid, k) for k in range(TRANSFORMS)]),
    )


def _count_pixels(source: PatchSource) -> int:
    """Counts those of one side of all pairs."""
    return sum(ir.size for ir, _ in source.images)


def cut_patches(
    images: ResidentImages, index: Int32[Array, " b"]
) -> tuple[UInt8[Array, "b size size 1"], UInt8[Array, "b size size 1"]]:
    """Cuts the same IR and VIS patches as `PatchSource.take`, traceable; `index` must be below the plan's length."""
    crops = images.crops[index]
    start, width, transform = (crops[:, column, None, None] for column in range(3))
    places = images.places[transform[:, 0, 0]]
    pixel = start + places[..., 0] * width + places[..., 1]
    patches = images.pixels.at[:, pixel].get(mode="promise_in_bounds")[..., None]
    # The barrier keeps what follows compiled as it is for patches from the host.
    ir, vis = jax.lax.optimization_barrier((patches[0], patches[1]))
    return ir, vis


@dataclasses.dataclass(frozen=True)
class MeshCut:
    """`cut_patches` on the devices of a mesh: each cuts the patches that it will compute."""

    mesh: Mesh | None

    def __call__(self, images: ResidentImages, index: Array) -> tuple[Array, Array]:
        if self.mesh is None or len(index) % self.mesh.size:
            return cut_patches(images, index)
        share = PartitionSpec(AXIS)
        each = jax.shard_map(cut_patches, mesh=self.mesh, in_specs=(PartitionSpec(), share), out_specs=share)
        return each(images, index)
