"""The weights of a training run, finished or not, from its workdir."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from rpfnet_jax.weights.errors import WeightsError, printable
from rpfnet_jax.weights.outcome import Outcome
from rpfnet_jax.weights.store import Weights


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
        outcome = Outcome(record)
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
        return outcome.weights(variables, {"checkpoint": {"step": step}})
    raise WeightsError(f"{workdir} has no readable checkpoint: {'; '.join(damaged)}")


def digest_variables(variables: Mapping[str, Any]) -> str:
    """SHA-256 of names, shapes and values of nested arrays, wherever they lie; a run's checkpoints carry it."""
    digest = hashlib.sha256()
    for name, value in sorted(flatten_dict(variables, sep="/").items()):
        array = np.asarray(value)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


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


def _arrays(tree: Any) -> Any:
    return {name: _arrays(leaf) for name, leaf in tree.items()} if isinstance(tree, dict) else np.asarray(tree)
