"""Where a step's patches come from: cut by the host, or by the step itself from pictures that are on the device.

Either way order and position are those of `rpfnet_jax.data.loader.batches`, and the patches are the same to the bit, so
that a run may be continued the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import grain
import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int32, UInt8

from rpfnet_jax.data.patches import TRANSFORMS, Batch, PatchSource, apply_transform, batches
from rpfnet_jax.training.parallel import AXIS, any_process, local_rows, replicate, spread
from rpfnet_jax.training.step import Cut

Residence = Literal["auto", "on", "off"]

# Of a device's memory that the pictures may take under "auto": the steps need the rest.
_SHARE = 1 / 4
# Of one side: JAX counts with 32 bit.
_MOST_PIXELS = np.iinfo(np.int32).max


@runtime_checkable
class Feed(Protocol):
    """What the training loop feeds its step with."""

    @property
    def cut(self) -> Cut | None:
        """For `Compute.cut`."""

    def batches(self, batch_size: int, seed: int) -> grain.DatasetIterator:
        """See `rpfnet_jax.data.loader.batches`; the batches have at least `index`."""

    def __call__(self, batch: Batch) -> tuple[Any, Any]:
        """The step's two inputs beside its state."""


def make_feed(residence: Residence, source: PatchSource, mesh: Mesh | None) -> Feed:
    """The pictures on the devices, or patches from the host.

    Args:
        residence: `on`, `off`, or `auto`: on accelerators whose memory, as far as they tell, is at least four times
            what the pictures take, in all processes.
        source: the patches.
        mesh: of `make_mesh`. Each of its devices gets all pictures and the indices of its share of a batch.

    Raises:
        ValueError: another word, or `on` with more pixels than can be indexed.
    """
    if residence not in get_args(Residence):
        raise ValueError(f'data.resident must be "auto", "on" or "off", got {residence!r}')
    devices = jax.local_devices()[:1] if mesh is None else mesh.local_devices
    if residence == "off" or (residence == "auto" and any_process(not fits(source, devices))):
        return HostFeed(source, mesh)
    return ResidentFeed(source, mesh)


class HostFeed:
    """Patches cut ahead of time by the host's threads, 2 * B * size * size bytes for each step."""

    cut = None

    def __init__(self, source: PatchSource, mesh: Mesh | None):
        self._source, self._mesh = source, mesh

    def batches(self, batch_size: int, seed: int) -> grain.DatasetIterator:
        return batches(self._source, batch_size, seed, lambda length: local_rows(length, self._mesh))

    def __call__(self, batch: Batch) -> tuple[Any, Any]:
        length = len(batch["index"])
        return spread(batch["ir"], length, self._mesh), spread(batch["vis"], length, self._mesh)


class Pictures(NamedTuple):
    """A crop plan and its pictures, on the host or on a device.

    Attributes:
        pixels: IR and VIS luminance of all pairs, one after the other, row by row.
        crops: of each patch: where in `pixels` its first row begins, the width of its picture, its transform.
        places: row and column in a crop that each pixel of the patch has, for every transform.
    """

    pixels: UInt8[Any, "2 n"]
    crops: Int32[Any, "patches 3"]
    places: Int32[Any, "transforms size size 2"]


class ResidentFeed:
    """Pictures that stay on the devices; of a batch only the indices are sent, 4 * B bytes."""

    def __init__(self, source: PatchSource, mesh: Mesh | None):
        self._indices, self._mesh = _Indices(len(source)), mesh
        pictures = collect(source)
        self._pictures = jax.device_put(pictures) if mesh is None else replicate(pictures, mesh)

    def batches(self, batch_size: int, seed: int) -> grain.DatasetIterator:
        return batches(self._indices, batch_size, seed)

    def __call__(self, batch: Batch) -> tuple[Pictures, Any]:
        index = batch["index"]
        if self._mesh is None:
            return self._pictures, jax.device_put(index)
        return self._pictures, spread(index[local_rows(len(index), self._mesh)], len(index), self._mesh)

    def cut(self, pictures: Pictures, index: Array) -> tuple[Array, Array]:
        """`cut_patches`, by each device those that it will compute."""
        if self._mesh is None or len(index) % self._mesh.size:
            return cut_patches(pictures, index)
        share = PartitionSpec(AXIS)
        each = jax.shard_map(cut_patches, mesh=self._mesh, in_specs=(PartitionSpec(), share), out_specs=share)
        return each(pictures, index)


class _Indices:
    """In the place of a `PatchSource`: patches that are nothing but their index."""

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def take(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        return {"index": np.asarray(indices, np.int32)}


def collect(source: PatchSource) -> Pictures:
    """Plan and pictures of a source, on the host.

    Raises:
        ValueError: more pixels than can be indexed, or a crop that is not within its picture.
    """
    if _pixels(source) > _MOST_PIXELS:
        raise ValueError(
            f"data.resident=on: the training pictures have {_pixels(source)} pixels, more than the {_MOST_PIXELS} that "
            "can be indexed on a device; use data.resident=off"
        )
    pair, top, left, transform = source.plan.T
    heights, widths = np.array([ir.shape for ir, _ in source.images], np.int32)[pair].T
    if ((top < 0) | (left < 0) | (top + source.size > heights) | (left + source.size > widths)).any():
        raise ValueError("the crop plan has crops that are not within their pictures")
    offsets = np.cumsum([0, *(ir.size for ir, _ in source.images[:-1])]).astype(np.int32)
    grid = np.moveaxis(np.indices((source.size, source.size), np.int32), 0, -1)
    return Pictures(
        np.concatenate([np.stack(sides).reshape(2, -1) for sides in source.images], axis=1),
        np.column_stack([offsets[pair] + top * widths + left, widths, transform]),
        np.stack([apply_transform(grid, k) for k in range(TRANSFORMS)]),
    )


def cut_patches(
    pictures: Pictures, index: Int32[Array, " b"]
) -> tuple[UInt8[Array, "b size size 1"], UInt8[Array, "b size size 1"]]:
    """What `PatchSource.take` cuts, IR and VIS, within a jitted function; `index` must be below the plan's length."""
    crops = pictures.crops[index]
    start, width, transform = (crops[:, column, None, None] for column in range(3))
    places = pictures.places[transform[:, 0, 0]]
    pixel = start + places[..., 0] * width + places[..., 1]
    patches = pictures.pixels.at[:, pixel].get(mode="promise_in_bounds")[..., None]
    # Apart from what follows, which so is compiled as it is for patches from the host.
    ir, vis = jax.lax.optimization_barrier((patches[0], patches[1]))
    return ir, vis


def _pixels(source: PatchSource) -> int:
    """Of one side of all pairs."""
    return sum(ir.size for ir, _ in source.images)


def fits(source: PatchSource, devices: Sequence[Any]) -> bool:
    """Whether all of these `jax.Device`s are accelerators and the pictures take a quarter of their memory at most."""
    if any(device.platform == "cpu" for device in devices) or _pixels(source) > _MOST_PIXELS:
        return False
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in devices]
    return 2 * _pixels(source) <= _SHARE * min(limits)
