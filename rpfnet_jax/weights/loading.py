"""Loading weights by name, file or workdir. `index.json` holds files and checksums of those shipped with the package.

docs/weights.md says what each of them was trained on, for how long, and how good it is.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights.store import FORMAT, Weights, WeightsError, parse_weights, read_safetensors
from rpfnet_jax.weights.torch_file import read_torch_archive
from rpfnet_jax.weights.torch_names import from_torch

_FOLDER = Path(__file__).parent
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_RELEASED_STAGES = 3


def load_weights(path: str | os.PathLike[str] | None = None) -> Weights:
    """Reads our own weights or the authors'. Nothing in the file is executed, and torch is not needed.

    Args:
        path: a name of `shipped_names` (None: the first; a file or folder of that name is `./NAME`); a file of
            `save_weights`; the workdir of a training run, whose `weights.safetensors` is read; or the authors' network
            as `torch.save` writes it (the module or its state dict) or as a safetensors file under torch's names. Of
            the authors' files only the module holds the number of iterations; for the others it is the released 3.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: none of these, damaged, or not fitting the network; the message names the tensors.
    """
    path = shipped_names()[0] if path is None else path
    path = _shipped_file(os.fspath(path)) if os.fspath(path) in shipped_names() else Path(path).expanduser()
    if path.is_dir():
        path = _file_of_run(path)
    if not path.is_file():
        known = "" if path.suffix else f"; those that come with the package: {', '.join(shipped_names())}"
        raise FileNotFoundError(f"no weights at {path}{known}")
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(_ZIP):
        tensors, attributes = read_torch_archive(path)
        return _released(path, tensors, attributes.get("num_iterations", _RELEASED_STAGES))
    # A safetensors file begins with the length of its header, 8 bytes that may be anything, and then this header.
    if start.startswith(_PICKLE) and start[8:] != b"{":
        raise WeightsError(
            f"{path} is a bare pickle, not a readable safetensors file; if torch < 1.6 wrote it, save it again there"
        )
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") == FORMAT:
        return parse_weights(path, tensors, metadata)
    return _released(path, tensors, _RELEASED_STAGES)


def shipped_names() -> list[str]:
    """Lists the weights that come with the package, the default of `load` first."""
    return list(_index())


@functools.cache
def _index() -> Mapping[str, Mapping[str, str]]:
    return json.loads((_FOLDER / "index.json").read_text())


def _shipped_file(name: str) -> Path:
    """Returns the file of shipped weights after its checksum is verified."""
    entry = _index()[name]
    path = _FOLDER / entry["file"]
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; install rpfnet-jax again") from error
    if found != entry["sha256"]:
        raise WeightsError(f"{path} is not the file that was shipped (SHA-256 {found}); install rpfnet-jax again")
    return path


def _file_of_run(workdir: Path) -> Path:
    """Returns the weights that training writes with every checkpoint."""
    path, checkpoints = workdir / "weights.safetensors", workdir / "checkpoints"
    if path.is_file():
        return path
    # Version 0.1 wrote the file only at the end of a run.
    if checkpoints.is_dir() and any(entry.name.isdigit() for entry in checkpoints.iterdir()):
        raise WeightsError(
            f"{workdir} has checkpoints but no weights.safetensors; run the same training command again: it resumes "
            "the run and writes the file"
        )
    if (workdir / "config.json").is_file():
        raise WeightsError(f"{workdir} has no checkpoint yet, and so no weights.safetensors")
    raise WeightsError(f"{workdir} is not the workdir of a training run: it has no weights.safetensors")


def _released(path: Path, tensors: dict[str, np.ndarray], stages: int) -> Weights:
    """Converts the tensors of the authors' network."""
    try:
        model = ModelConfig.preset("released", stages=stages)
        variables, dropped = from_torch(tensors, model)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    converted = {"file": path.name, "sha256": digest, "dropped": dropped}
    return Weights(model, variables, provenance={"converted": converted})
