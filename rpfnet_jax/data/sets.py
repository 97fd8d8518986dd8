"""From the configured data root to training and validation pairs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from rpfnet_jax.data.pairs import Pair, PairError, Role, find_pairs


class DataMissingError(ValueError):
    """The configured data are not there or no pairs; the message says where they come from and how to lay them out."""


class TrainingSets(NamedTuple):
    """Pairs to train on and pairs to validate on; no pair is in both."""

    train: list[Pair]
    validation: list[Pair]


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
