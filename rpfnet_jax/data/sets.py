"""From the configured data root to training and validation pairs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from rpfnet_jax.data.pairs import Pair, PairError, Role, find_pairs, join_sets


class DataMissingError(ValueError):
    """The configured data are not there or no pairs; the message says where they come from and how to lay them out."""


class TrainingSets(NamedTuple):
    """Pairs to train on and pairs to validate on; no pair is in both."""

    train: list[Pair]
    validation: list[Pair]


def find_training_sets(data: ConfigDict, seed: int) -> TrainingSets:
    """Finds the pairs below the folder `data.root`.

    Two kinds of root: a folder with the subfolders `data.train` and `data.validation` gives both sets; a folder that
    holds the two sides itself (`ir` and `vis`, or the other layouts of `find_pairs`) is split, and the share
    `data.holdout` of its pairs is kept for validation. With `data.sets`, each of these subfolders of the root is such a
    folder, and their pairs are joined.

    Args:
        data: The `data` part of a configuration.
        seed: Seed of the split.

    Raises:
        DataMissingError: If the root does not exist or does not hold a set of pairs.
    """
    root = Path(data.root).expanduser()
    try:
        if not data.sets:
            return _open_set(root, data, seed)
        opened = {name: _open_set(root / name, data, seed) for name in data.sets}
        sides = zip(*opened.values(), strict=True)
        return TrainingSets(*(join_sets(dict(zip(opened, pairs, strict=True))) for pairs in sides))
    except PairError as error:
        folder = f"{root}/{{{','.join(data.sets)}}}" if data.sets else str(root)
        raise DataMissingError(
            f"no usable training data at {root.absolute()} (config.data.root): {error}\n"
            f"{data.source}\n"
            f"Expected: {folder}/{data.train}/{{ir,vis}}/NAME.EXT and {folder}/{data.validation}/{{ir,vis}}/NAME.EXT "
            f"with the same NAME on both sides; or {folder}/{{ir,vis}}/NAME.EXT, of which {data.holdout:.0%} are "
            "held out for validation.\n"
            "Another place: --config.data.root=DIR. Without any data: --config.data.root=synthetic uses embedded "
            "scenes."
        ) from error


def _open_set(root: Path, data: ConfigDict, seed: int) -> TrainingSets:
    functional: Role = data.functional or "vis"
    if not root.is_dir():
        raise PairError(f"{root}: there is no such folder")
    if (root / data.train).is_dir():
        return TrainingSets(*(find_pairs(root / part, functional) for part in (data.train, data.validation)))
    return _split(find_pairs(root, functional), data.holdout, seed)


def _split(pairs: list[Pair], share: float, seed: int) -> TrainingSets:
    count = max(1, round(len(pairs) * share))
    if count >= len(pairs):
        raise PairError(f"{len(pairs)} pair(s) are too few to hold out a share of {share} (config.data.holdout)")
    held_out = set(random.Random(seed).sample(range(len(pairs)), count))
    return TrainingSets(
        [pair for index, pair in enumerate(pairs) if index not in held_out],
        [pair for index, pair in enumerate(pairs) if index in held_out],
    )
