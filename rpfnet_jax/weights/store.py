"""Trained weights in memory, and as safetensors files with their configuration in the metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rpfnet_jax.files import write_atomically
from rpfnet_jax.model import ModelConfig, variable_shapes

FORMAT = "rpfnet_jax"
FORMAT_VERSION = "1"

_MAX_TEXT = 300
_MAX_LISTED = 5
# The one layer between the head's features and its sigmoid.
_LAST_LAYER = ("params/head/out/kernel", "params/head/out/bias")


class WeightsError(ValueError):
    """A weights file that can't be used; the message names the file and the reason."""


@dataclasses.dataclass(frozen=True)
class FusionDefaults:
    """How a network fuses where a call does not say otherwise; stored with the weights.

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
        # Not `batch`: a fused image must not depend on its neighbours in a batch.
        if self.norm not in ("image", "running", "adaptive"):
            raise ValueError(f"norm for fusing must be image, running or adaptive, got {self.norm!r}")
        if not 0 <= self.adapt <= 1:
            raise ValueError(f"adapt must be in [0, 1], got {self.adapt}")
        if self.color_range not in ("full", "studio"):
            raise ValueError(f"color_range must be full or studio, got {self.color_range!r}")

    def override(
        self, norm: str | None = None, adapt: float | None = None, color_range: str | None = None
    ) -> FusionDefaults:
        """Replaces the values that are not None.

        Raises:
            ValueError: an impossible value, or an `adapt` that would have no effect.
        """
        given: dict[str, Any] = {"norm": norm, "adapt": adapt, "color_range": color_range}
        chosen = dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})
        if adapt is not None and chosen.norm != "adaptive":
            raise ValueError(f"adapt={adapt} has an effect only with norm=adaptive, not with {chosen.norm}")
        return chosen


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained fusion network.

    Attributes:
        model: its configuration.
        variables: Linen variables, `params` and `batch_stats`; NumPy arrays where they were loaded.
        defaults: how to fuse with it.
        training: the configuration of the training run, JSON-able; empty when unknown.
        provenance: what else happened to it, JSON-able: `converted` (the file it was read from and that file's
            SHA-256), `calibrated` (the patches that its running statistics were measured on).
    """

    model: ModelConfig
    variables: dict[str, Any]
    defaults: FusionDefaults = FusionDefaults()
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


class RunOutput:
    """Turns the variables of a training run into `Weights`.

    Example:
        >>> output = RunOutput(json.loads(config.to_json()))
        >>> save_weights("weights.safetensors", output.weights(state.variables()))
    """

    def __init__(self, record: Mapping[str, Any]):
        """Checks the run's configuration before anything is trained.

        Args:
            record: the configuration (see `rpfnet_jax.recipes.base`) as its JSON holds it. In older records, fields are
                missing or None, which stands for the reading's value, and for a contrast of 1.

        Raises:
            ValueError, TypeError, KeyError: a required field is missing, or a field has an impossible value.
        """
        self._record = dict(record)
        self._model = ModelConfig.from_fields(record["model"])
        self._defaults = FusionDefaults(**record["fusion"])
        contrast = record.get("contrast")
        self._contrast = 1.0 if contrast is None else float(contrast)
        if not 0 < self._contrast < float("inf"):
            raise ValueError(f"contrast must be above 0, got {self._contrast}")
        if self._contrast != 1 and self._model.base != "none":
            raise ValueError("contrast must be None where model.base is not 'none': the base decides the contrast")

    def weights(self, variables: dict[str, Any], provenance: Mapping[str, Any] | None = None) -> Weights:
        """Multiplies the logits of the fused image by the contrast, by way of the last layer."""
        if self._contrast != 1:
            flat = flatten_dict(variables, sep="/")
            variables = unflatten_dict(flat | {name: flat[name] * self._contrast for name in _LAST_LAYER}, sep="/")
        return Weights(self._model, variables, self._defaults, self._record, dict(provenance or {}))


def check_weights_name(path: Path) -> None:
    """Raises ValueError when `load_weights` would not recognise a file of this name; to be called before the work."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: the name must end in .safetensors")


def save_weights(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes a safetensors file atomically; float32 tensors are named by their path (`params/head/out/kernel`)."""
    tensors = {
        name: np.ascontiguousarray(value, dtype=np.float32)
        for name, value in flatten_dict(weights.variables, sep="/").items()
    }
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": json.dumps(dataclasses.asdict(weights.model)),
        "defaults": json.dumps(dataclasses.asdict(weights.defaults)),
        "training": json.dumps(weights.training),
        "provenance": json.dumps(weights.provenance),
    }
    write_atomically(path, save(tensors, metadata))


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads tensors and metadata of any safetensors file. Nothing in it is executed.

    Raises:
        WeightsError: not a safetensors file, or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return tensors, file.metadata() or {}
    # The errors after the first come from dtypes that NumPy does not have.
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {printable(error)}") from error


def parse_weights(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> Weights:
    """Builds `Weights` from what `read_safetensors` found in a file of `save_weights`.

    Raises:
        WeightsError: another format version, unusable metadata, or tensors that do not fit the network described.
    """
    if metadata.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path} has format version {metadata.get('format_version')}; this version reads {FORMAT_VERSION}"
        )
    try:
        model = ModelConfig(**json.loads(metadata["model"]))
        defaults = FusionDefaults(**json.loads(metadata["defaults"]))
        training = json.loads(metadata["training"])
        provenance = json.loads(metadata.get("provenance", "{}"))
        if not (isinstance(training, dict) and isinstance(provenance, dict)):
            raise ValueError("training and provenance must be JSON objects")
        problems = misfits(tensors, variable_shapes(model))
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise WeightsError(f"{path} has unusable metadata: {printable(error)}") from error
    if problems:
        raise WeightsError(f"{path} does not fit its own model configuration: {'; '.join(problems)}")
    return Weights(model, unflatten_dict(tensors, sep="/"), defaults, training, provenance)


def misfits(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Describes which tensors are missing, unknown, or not float32 of the shape that they should have."""
    missing, unknown = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    problems = [f"missing {listing(missing)}"] if missing else []
    problems += [f"unknown {listing(unknown)}"] if unknown else []
    wrong = []
    for name, shape in shapes.items():
        if name in tensors and tensors[name].shape != shape:
            wrong.append(f"{name} is {tensors[name].shape} instead of {shape}")
        elif name in tensors and tensors[name].dtype != np.float32:
            wrong.append(f"{name} is {tensors[name].dtype} instead of float32")
    return problems + ([listing(wrong)] if wrong else [])


def printable(text: object) -> str:
    """Makes text from a foreign file fit for a message: printable, on one line and not too long."""
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: 2 * _MAX_TEXT])
    return escaped if len(escaped) <= _MAX_TEXT else f"{escaped[:_MAX_TEXT]}…"


def listing(names: Sequence[str]) -> str:
    """Names the first few of a list, and counts the others."""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(printable(name) for name in names[:_MAX_LISTED]) + more
