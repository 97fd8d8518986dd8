"""One entrance for every kind of weights file; the content decides, not the name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights.errors import WeightsError
from rpfnet_jax.weights.run_directory import read_run
from rpfnet_jax.weights.shipped import shipped_file, shipped_names
from rpfnet_jax.weights.store import FORMAT, Weights, parse_weights, read_safetensors
from rpfnet_jax.weights.torch_archive import read_torch_archive
from rpfnet_jax.weights.torch_names import from_torch

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def load_weights(path: str | os.PathLike[str] | None = None) -> Weights:
    """Reads our own weights or the authors'. Nothing in the file is executed, and torch is not needed.

    Args:
        path: a name of `shipped_names` (None: the first; a file or folder of that name is `./NAME`); what
            `save_weights` wrote; the workdir of a training run (its newest checkpoint is read); or the authors' network
            as `torch.save` writes it (the module or its state dict) or as a safetensors file under torch's names. Of
            these only the module says how often the block is iterated; the others are taken for the released network's
            3.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: none of these, damaged, or not fitting the network: tensors are named.
    """
    path = shipped_names()[0] if path is None else path
    path = shipped_file(os.fspath(path)) if os.fspath(path) in shipped_names() else Path(path).expanduser()
    if path.is_dir():
        return read_run(path)
    if not path.is_file():
        known = "" if path.suffix else f"; those that come with the package: {', '.join(shipped_names())}"
        raise FileNotFoundError(f"no weights at {path}{known}")
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(_ZIP):
        checkpoint = read_torch_archive(path)
        return _released(path, checkpoint.tensors, checkpoint.attributes.get("num_iterations", 3))
    # A safetensors file begins with the length of its header, 8 bytes that may be anything, and then this header.
    if start.startswith(_PICKLE) and start[8:] != b"{":
        raise WeightsError(
            f"{path} is a bare pickle, not a readable safetensors file; if torch < 1.6 wrote it, save it again there"
        )
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") == FORMAT:
        return parse_weights(path, tensors, metadata)
    return _released(path, tensors, 3)


def _released(path: Path, tensors: dict[str, np.ndarray], stages: int) -> Weights:
    try:
        model = ModelConfig.preset("released", stages=stages)
        variables, dropped = from_torch(tensors, model)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    converted = {"file": path.name, "sha256": digest, "dropped": dropped}
    return Weights(model, variables, provenance={"converted": converted})
