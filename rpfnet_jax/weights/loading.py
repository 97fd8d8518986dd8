"""Weights that come with the package: their names, files and checksums, in `index.json` beside this module.

What each was trained on, how long and how good it is: docs/weights.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights.store import (
    FORMAT,
    RunOutput,
    Weights,
    WeightsError,
    _arrays,
    digest_variables,
    parse_weights,
    printable,
    read_safetensors,
)
from rpfnet_jax.weights.torch_file import read_torch_archive
from rpfnet_jax.weights.torch_names import from_torch

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


def read_run(workdir: Path) -> Weights:
    """The fusion network of the newest Orbax checkpoint in `workdir/checkpoints` that is whole; changes nothing there.

    Where newer ones are damaged, a warning names them and the step that is used instead.

    Args:
        workdir: of `train.py`; its `config.json` describes the network.

    Raises:
        WeightsError: no run, no checkpoint yet, or none that can be read.
    """
    config, checkpoints = workdir / "config.json", workdir / "checkpoints"
    if not (config.is_file() and checkpoints.is_dir()):
        raise WeightsError(f"{workdir} is no workdir of train.py: it has no config.json with checkpoints/ beside it")
    try:
        record = json.loads(config.read_text())
        output = RunOutput(record)
    except Exception as error:
        raise WeightsError(f"{config} is damaged: {printable(error)}") from error
    # Not by Orbax' manager, which reads the notes of all steps before it gives any.
    steps = sorted((int(path.name) for path in checkpoints.iterdir() if path.name.isdigit()), reverse=True)
    if not steps:
        raise WeightsError(f"{workdir} has no checkpoint yet; the first comes after the first steps")
    damaged = []
    for step in steps:
        try:
            variables = _read_variables(checkpoints.absolute() / str(step))
        # Orbax and its storage layer raise many kinds of errors for a damaged checkpoint.
        except Exception as error:
            damaged.append(f"{checkpoints / str(step)} is damaged: {printable(error)}")
            continue
        if damaged:
            warnings.warn(f"{'; '.join(damaged)}. The checkpoint of step {step} is used instead", stacklevel=4)
        return output.weights(variables, {"checkpoint": {"step": step}})
    raise WeightsError(f"{workdir} has no readable checkpoint: {'; '.join(damaged)}")


def _read_variables(checkpoint: Path) -> dict[str, Any]:
    """The fusion network's variables; an exception of any kind where they are not those that were written."""
    # Takes a second to import, and only this needs it here.
    import orbax.checkpoint as ocp

    header = json.loads((checkpoint / "header" / "metadata").read_text())
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(checkpoint / "state")
    # As `TrainState.variables` has it: networks without norms have no statistics, and most runs no average.
    params = state.get("average") or state["params"]["fusion"]
    statistics = (state.get("batch_stats") or {}).get("fusion") or {}
    variables = {"params": _arrays(params), "batch_stats": _arrays(statistics)}
    # Older checkpoints have none.
    written = header.get("sha256", {}).get("fusion")
    if written not in (None, digest_variables(variables)):
        raise WeightsError("wrong checksum")
    return variables


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
