"""Fusing the pairs of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rpfnet_jax.data.images import write_png
from rpfnet_jax.data.pairs import Pair, check_pairs
from rpfnet_jax.inference.fuser import Fuser


def fuse_pairs(net: Fuser, pairs: Sequence[Pair], out: Path | None = None) -> Iterator[tuple[Pair, np.ndarray]]:
    """Fuses every pair at native size, those of one shape after another, so that each shape is compiled once.

    Args:
        net: the network.
        pairs: checked before the first is fused.
        out: folder for `<name>.png`, made if missing; None writes nothing.

    Yields:
        Each pair with its fused picture, uint8, (H, W) or (H, W, 3) as its visible picture; ordered by shape.

    Raises:
        PairError: some pictures are unreadable or of different sizes; all of them are listed.
        ValueError: `out` is a folder that some of the pictures are in.
    """
    if out is not None:
        sources = {path.resolve().parent for pair in pairs for path in (pair.ir, pair.vis)}
        if out.resolve() in sources:
            raise ValueError(f"{out} holds pictures to be fused; results of the same name would overwrite them")
    sizes = check_pairs(pairs)
    for index in sorted(range(len(pairs)), key=lambda index: sizes[index]):
        pair = pairs[index]
        fused = net.fuse(pair.ir, pair.vis)
        if out is not None:
            write_png(out / f"{pair.name}.png", fused)
        yield pair, fused
