"""The deterministic plan of training crops, cutting them, and batching them.

A plan is a small integer array that can be stored, hashed, and indexed by step number; images are only cut when a row
of the plan is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict, runtime_checkable

import grain
import numpy as np
from jaxtyping import Int32, Shaped, UInt8

from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.pixels import to_gray
from rpfnet_jax.data.thermal import read_levels

# RPFNet, section 4.1: 3,383 patches of 128 by 128 pixels from the 180 training pairs.
PAPER_PATCH_COUNT = 3383
PAPER_PATCH_SIZE = 128
TRANSFORMS = 8


def crop_plan(
    sizes: Sequence[tuple[int, int]],
    count: int = PAPER_PATCH_COUNT,
    size: int = PAPER_PATCH_SIZE,
    seed: int = 0,
    augment: bool = False,
) -> Int32[np.ndarray, "count 4"]:
    """Plans square crops, spread evenly over the pairs and uniformly within each.

    The plan depends on the arguments alone and is the same on every platform. Rows are ordered by pair; `batches`
    shuffles them.

    Args:
        sizes: (height, width) of each pair.
        count: Number of crops. Each pair gets `count // n` or one more; the seed draws which ones get more.
        size: Side of the crops in pixels.
        seed: Non-negative seed.
        augment: Whether to draw the fourth column too. Positions are the same with and without.

    Returns:
        Rows (pair index, top, left, transform); transform 0 is the identity, see `apply_transform`.

    Raises:
        ValueError: If pairs are smaller than a crop (all are listed by index and size), there are no pairs, or a
            number is out of range.
    """
    if not sizes:
        raise ValueError("crop_plan needs at least one pair")
    if count < 0 or size < 1 or seed < 0:
        raise ValueError(f"need count >= 0, size >= 1, seed >= 0; got {count}, {size}, {seed}")
    small = [f"{i}: {h}\u00d7{w}" for i, (h, w) in enumerate(sizes) if min(h, w) < size]
    if small:
        raise ValueError(f"{len(small)} pair(s) smaller than the {size}\u00d7{size} crop: {', '.join(small)}")

    root = np.random.SeedSequence(seed)
    # PCG64(SeedSequence(seed)) is PCG64(seed). Of the generator only random() is used: it is a fixed function of the
    # bit stream, while the algorithms behind integers() and permutation() may change between NumPy releases.
    draw = np.random.Generator(np.random.PCG64(root)).random
    per_pair = np.full(len(sizes), count // len(sizes))
    per_pair[np.argsort(draw(len(sizes)), kind="stable")[: count % len(sizes)]] += 1
    pair = np.repeat(np.arange(len(sizes)), per_pair)
    # Number of valid positions along each axis.
    room = np.asarray(sizes, dtype=np.int64)[pair].reshape(count, 2) - size + 1
    position = _below(draw((count, 2)), room)

    transform = np.zeros(count, dtype=np.int64)
    if augment:
        # A spawned stream leaves that of the positions untouched.
        stream = np.random.Generator(np.random.PCG64(root.spawn(1)[0]))
        transform = _below(stream.random(count), TRANSFORMS)
    return np.column_stack([pair, position, transform]).astype(np.int32)


def extract(
    image: Shaped[np.ndarray, "h w *channels"], row: Shaped[np.ndarray, " 4"], size: int
) -> Shaped[np.ndarray, "size size *channels"]:
    """Cuts the crop that one row of a plan of crops of this size describes, as a C-contiguous copy.

    Raises:
        ValueError: If the crop does not lie within the image.
    """
    _, top, left, transform = (int(value) for value in row)
    height, width = image.shape[:2]
    if not (0 <= top <= height - size and 0 <= left <= width - size):
        raise ValueError(f"a {size}\u00d7{size} crop at ({top}, {left}) is outside an image of {height}\u00d7{width}")
    return apply_transform(image[top : top + size, left : left + size], transform).copy()


def apply_transform(patch: Shaped[np.ndarray, "h w *channels"], k: int) -> Shaped[np.ndarray, "..."]:
    """Applies one of the eight symmetries of the square; the result is a view, h and w exchanged for odd `k`.

    Args:
        patch: The patch.
        k: 0 to 3 turns counter-clockwise by k quarter turns (0 is the identity); 4 to 7 mirrors left-right first and
            then turns by k - 4 quarter turns.

    Raises:
        ValueError: If `k` is not in 0..7.
    """
    if not 0 <= k < TRANSFORMS:
        raise ValueError(f"transform must be in 0..7, not {k}")
    return np.rot90(patch[:, ::-1] if k >= 4 else patch, k % 4)


def _below(uniform: np.ndarray, limit: np.ndarray | int) -> np.ndarray:
    # random() is below 1, but its product with the limit could in theory be rounded up to the limit itself.
    return np.minimum((uniform * limit).astype(np.int64), np.asarray(limit) - 1)


class Batch(TypedDict):
    """One batch: 8-bit patches and the rows of the crop plan they come from."""

    ir: UInt8[np.ndarray, "b h w 1"]
    vis: UInt8[np.ndarray, "b h w 1"]
    index: Int32[np.ndarray, " b"]


@runtime_checkable
class Source(Protocol):
    """Patches that `batches` can draw by their index, such as a `PatchSource`."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Any:
        """Returns some patches as a dict of arrays."""


class PatchSource:
    """The patches of a crop plan, cut on demand from images held in memory.

    The 180 training pairs take about 60 MB as 8-bit luminance, so that no step waits for a disk.

    Args:
        pairs: The training pairs; both sides are read as luminance.
        plan: Rows (pair, top, left, transform) of `crop_plan`.
        size: Side of a patch in pixels.

    Attributes:
        images: IR and VIS luminance of each pair, uint8 (H, W).

    Raises:
        ImageError: If an image cannot be read.
    """

    def __init__(self, pairs: Sequence[Pair], plan: Int32[np.ndarray, "n 4"], size: int):
        self.pairs = tuple(pairs)
        self.plan = plan
        self.size = size
        self.images = [
            (to_gray(read_levels(pair.ir, pair.scaling.ir)), to_gray(read_levels(pair.vis, pair.scaling.vis)))
            for pair in pairs
        ]

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        row = self.plan[index]
        ir, vis = (extract(image, row, self.size)[..., None] for image in self.images[row[0]])
        return {"ir": ir, "vis": vis, "index": np.asarray(index, np.int32)}

    def take(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Cuts some patches as one batch."""
        items = [self[int(index)] for index in indices]
        return Batch(**{key: np.stack([item[key] for item in items]) for key in ("ir", "vis", "index")})  # type: ignore[typeddict-item]

    def head(self, count: int) -> Batch:
        """Cuts the first `count` patches of the plan as one batch."""
        return self.take(np.arange(min(count, len(self))))

    def fingerprint(self) -> str:
        """Computes a SHA-256 over the crop plan and all images: equal exactly when the patches are."""
        digest = hashlib.sha256(self.plan.tobytes())
        for pair, sides in zip(self.pairs, self.images, strict=True):
            for side in sides:
                digest.update(f"{pair.name} {side.shape}".encode())
                digest.update(side.tobytes())
        return digest.hexdigest()

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """Names the visible file and the position of some patches, for messages."""
        rows = self.plan[np.asarray(indices)]
        return [f"{self.pairs[pair].vis} at row {top}, column {left}" for pair, top, left, _ in rows]


def steps_per_epoch(patches: int, batch_size: int) -> int:
    """Counts the batches of an epoch, with the last, smaller one.

    Raises:
        ValueError: If either number is not positive.
    """
    if patches < 1 or batch_size < 1:
        raise ValueError(f"data.patches and batch_size must be at least 1, got {patches} and {batch_size}")
    return -(-patches // batch_size)


def batches(source: Source, batch_size: int, seed: int, rows: Callable[[int], slice] = slice) -> grain.DatasetIterator:
    """Draws endless batches, each epoch in its own order; the last, smaller batch of an epoch is kept.

    The iterator prefetches in threads. Its position is a small dict that JSON can store: `get_state()` returns it, and
    `set_state()` continues exactly from there.

    Args:
        source: The patches.
        batch_size: Size of all batches but the last of an epoch.
        seed: Seed of the order, which depends on nothing else.
        rows: Maps the length of a batch to the slice of it that is loaded: all of it, unless other processes load the
            rest. `index` always covers the whole batch, and so do order and position.
    """

    def load(indices: np.ndarray) -> Batch:
        loaded = source.take(indices[rows(len(indices))])
        return {**loaded, "index": indices.astype(np.int32)}  # type: ignore[typeddict-item]

    data = grain.MapDataset.range(len(source)).shuffle(seed=seed).batch(batch_size).map(load).repeat()
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=16)
    return iter(data.to_iter_dataset(options))
