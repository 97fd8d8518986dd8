"""Batches of training patches: pictures in memory as 8 bit, order and position by grain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict, runtime_checkable

import grain
import numpy as np
from jaxtyping import Int32, UInt8

from rpfnet_jax.data.images import read_gray
from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.patches import extract


class Batch(TypedDict):
    """One batch: 8-bit patches (B, size, size, 1) and the rows of the crop plan they come from."""

    ir: UInt8[np.ndarray, "b h w 1"]
    vis: UInt8[np.ndarray, "b h w 1"]
    index: Int32[np.ndarray, " b"]


@runtime_checkable
class Source(Protocol):
    """What `batches` draws from: `PatchSource`, or anything that knows as many patches by their index."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Any:
        """Some patches as a dict of arrays."""


class PatchSource:
    """The patches of a crop plan, cut on demand from pictures held in memory.

    The 180 training pairs take about 60 MB as 8-bit luminance, so that no step waits for a disk.

    Args:
        pairs: the training pairs; both sides are read as luminance.
        plan: rows (pair, top, left, transform) of `crop_plan`.
        size: side of a patch in pixels.

    Attributes:
        images: IR and VIS luminance of each pair, uint8 (H, W).

    Raises:
        ImageError: a picture can't be read.
    """

    def __init__(self, pairs: Sequence[Pair], plan: Int32[np.ndarray, "n 4"], size: int):
        self.pairs = tuple(pairs)
        self.plan = plan
        self.size = size
        self.images = [(read_gray(pair.ir), read_gray(pair.vis)) for pair in pairs]

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        row = self.plan[index]
        ir, vis = (extract(image, row, self.size)[..., None] for image in self.images[row[0]])
        return {"ir": ir, "vis": vis, "index": np.asarray(index, np.int32)}

    def fingerprint(self) -> str:
        """SHA-256 over the crop plan and all pictures: equal exactly when the patches are."""
        digest = hashlib.sha256(self.plan.tobytes())
        for pair, sides in zip(self.pairs, self.images, strict=True):
            for side in sides:
                digest.update(f"{pair.name} {side.shape}".encode())
                digest.update(side.tobytes())
        return digest.hexdigest()

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The visible files that some patches were cut from, with the crop's place, for messages."""
        rows = self.plan[np.asarray(indices)]
        return [f"{self.pairs[pair].vis} at row {top}, column {left}" for pair, top, left, _ in rows]

    def head(self, count: int) -> Batch:
        """The first `count` patches of the plan as one batch."""
        return self.take(np.arange(min(count, len(self))))

    def take(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Some patches as one batch."""
        items = [self[int(index)] for index in indices]
        return Batch(**{key: np.stack([item[key] for item in items]) for key in ("ir", "vis", "index")})  # type: ignore[typeddict-item]


def steps_per_epoch(patches: int, batch_size: int) -> int:
    """Batches in an epoch; the last, smaller one counts.

    Raises:
        ValueError: either number is not positive.
    """
    if patches < 1 or batch_size < 1:
        raise ValueError(f"data.patches and batch_size must be at least 1, got {patches} and {batch_size}")
    return -(-patches // batch_size)


def batches(source: Source, batch_size: int, seed: int, rows: Callable[[int], slice] = slice) -> grain.DatasetIterator:
    """Endless batches, each epoch in an order of its own, drawn from `seed` alone; the last, smaller batch is kept.

    The iterator prefetches in threads; `get_state()` gives its position as a small JSON-able dict, and `set_state()`
    continues from there exactly.

    Args:
        source: the patches.
        batch_size: of all batches but the last of an epoch.
        seed: draws the order.
        rows: which rows of a batch of that length are loaded; `index` is that of all rows nevertheless. All of them,
            unless other processes load the others: order and position are those of the whole batches.
    """

    def load(indices: np.ndarray) -> Batch:
        loaded = source.take(indices[rows(len(indices))])
        return {**loaded, "index": indices.astype(np.int32)}  # type: ignore[typeddict-item]

    data = grain.MapDataset.range(len(source)).shuffle(seed=seed).batch(batch_size).map(load).repeat()
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=16)
    return iter(data.to_iter_dataset(options))
