"""The weights of a training run, finished or not, from its workdir."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights.errors import WeightsError
from rpfnet_jax.weights.store import FusionDefaults, Weights


def read_run(workdir: Path) -> Weights:
    """The fusion network of the newest Orbax checkpoint in `workdir/checkpoints`.

    Args:
        workdir: of `train.py`; its `config.json` describes the network.

    Raises:
        WeightsError: no run, no checkpoint yet, or one that can't be read.
    """
    # Takes a second to import, and only this needs it here.
    import orbax.checkpoint as ocp

    config, checkpoints = workdir / "config.json", workdir / "checkpoints"
    if not (config.is_file() and checkpoints.is_dir()):
        raise WeightsError(f"{workdir} is no workdir of train.py: it has no config.json with checkpoints/ beside it")
    try:
        record = json.loads(config.read_text())
        model, defaults = ModelConfig.from_fields(record["model"]), FusionDefaults(**record["fusion"])
        with ocp.CheckpointManager(checkpoints.absolute()) as manager:
            step = manager.latest_step()
            if step is None:
                raise WeightsError(f"{workdir} has no checkpoint yet; the first comes after the first steps")
            state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]
        averaged = state.get("average")
        params, stats = averaged or state["params"]["fusion"], (state.get("batch_stats") or {}).get("fusion") or {}
        variables = {"params": _arrays(params), "batch_stats": _arrays(stats)}
    except WeightsError:
        raise
    except Exception as error:
        # Orbax and its storage layer raise many kinds of errors for a damaged checkpoint.
        raise WeightsError(f"{workdir} has no readable checkpoint: {' '.join(str(error).split())}") from error
    return Weights(model, variables, defaults, record, {"checkpoint": {"step": step}})


def _arrays(tree: Any) -> Any:
    return {name: _arrays(leaf) for name, leaf in tree.items()} if isinstance(tree, dict) else np.asarray(tree)
