"""Weights as safetensors: parameters and running statistics, with all that fusing needs to know in the metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rpfnet_jax.files import write_atomically
from rpfnet_jax.model import MIN_SIDE, ModelConfig, RPFNet

FORMAT_VERSION = "1"


class WeightsError(ValueError):
    """A weights file that can't be used; the message names the file and says why."""


@dataclasses.dataclass(frozen=True)
class FusionDefaults:
    """How the weights are meant to be used; travels with them.

    Attributes:
        norm: norm mode for fusing: `image`, `running` or `adaptive`.
        adapt: weight of the image's own statistics in `adaptive` mode.
        color_range: `full` puts the fused luminance in place of the visible image's Y (BT.601 full range); `studio` is
            the stretched restoration of the authors' test script.
    """

    norm: str = "image"
    adapt: float = 0.1
    color_range: str = "full"

    def __post_init__(self) -> None:
        # Not `batch`: a fused picture must not depend on its neighbours in a batch.
        if self.norm not in ("image", "running", "adaptive"):
            raise ValueError(f"norm for fusing must be image, running or adaptive, got {self.norm!r}")
        if not 0 <= self.adapt <= 1:
            raise ValueError(f"adapt must be in [0, 1], got {self.adapt}")
        if self.color_range not in ("full", "studio"):
            raise ValueError(f"color_range must be full or studio, got {self.color_range!r}")


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained fusion network.

    Attributes:
        model: its configuration.
        variables: Linen variables, `params` and `batch_stats`; NumPy arrays where they were loaded.
        defaults: how to fuse with it.
        training: the configuration of the run that made it, JSON-able; empty when unknown.
    """

    model: ModelConfig
    variables: dict[str, Any]
    defaults: FusionDefaults = FusionDefaults()
    training: dict[str, Any] = dataclasses.field(default_factory=dict)


def save_weights(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes a safetensors file: tensors named by their path (`params/stage/cpm/gate/conv/kernel`), float32.

    A reader sees the old file or the whole new one, never half of it.
    """
    tensors = {
        name: np.ascontiguousarray(value, dtype=np.float32)
        for name, value in flatten_dict(weights.variables, sep="/").items()
    }
    metadata = {
        "format": "rpfnet_jax",
        "format_version": FORMAT_VERSION,
        "model": json.dumps(dataclasses.asdict(weights.model)),
        "defaults": json.dumps(dataclasses.asdict(weights.defaults)),
        "training": json.dumps(weights.training),
    }
    write_atomically(path, save(tensors, metadata))


def load_weights(path: str | os.PathLike[str]) -> Weights:
    """Reads what `save_weights` wrote. Nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: not a safetensors file of this package and format version, or its tensors do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("format") != "rpfnet_jax":
        raise WeightsError(f"{path} was not written by rpfnet_jax: its metadata has no format = rpfnet_jax")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path} has format version {metadata.get('format_version')}; this version reads {FORMAT_VERSION}"
        )
    try:
        model = ModelConfig(**json.loads(metadata["model"]))
        defaults = FusionDefaults(**json.loads(metadata["defaults"]))
        training = json.loads(metadata["training"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} has unusable metadata: {error}") from error
    problems = _misfits(tensors, model)
    if problems:
        raise WeightsError(f"{path} does not fit its own model configuration: {'; '.join(problems)}")
    return Weights(model, unflatten_dict(tensors, sep="/"), defaults, training)


def _misfits(tensors: dict[str, np.ndarray], model: ModelConfig) -> list[str]:
    """What a file lacks, has too much of, or has in another shape than the network takes."""
    image = jax.ShapeDtypeStruct((1, MIN_SIDE, MIN_SIDE, 1), np.float32)
    variables = jax.eval_shape(RPFNet(model).init, jax.random.key(0), image, image)
    wanted = {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}
    missing, surplus = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    problems = [f"missing {', '.join(missing)}"] if missing else []
    problems += [f"unknown {', '.join(surplus)}"] if surplus else []
    return problems + [
        f"{name} is {tensors[name].shape} instead of {shape}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
