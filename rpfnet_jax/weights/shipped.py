"""Weights that come with the package: their names, files and checksums, in `index.json` beside this module.

What each was trained on, how long and how good it is: docs/weights.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from rpfnet_jax.weights.errors import WeightsError

_FOLDER = Path(__file__).parent


@functools.cache
def _index() -> Mapping[str, Mapping[str, str]]:
    return json.loads((_FOLDER / "index.json").read_text())


def shipped_names() -> list[str]:
    """Names that `load` takes, the best one first: it is what `load()` gives."""
    return list(_index())


def shipped_file(name: str) -> Path:
    """The file of shipped weights, its checksum verified.

    Raises:
        KeyError: no weights of this name.
        WeightsError: the file is missing or not the one that was shipped.
    """
    entry = _index()[name]
    path = _FOLDER / entry["file"]
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; install rpfnet-jax again") from error
    if found != entry["sha256"]:
        raise WeightsError(f"{path} is not the file that was shipped (SHA-256 {found}); install rpfnet-jax again")
    return path
