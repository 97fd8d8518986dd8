"""The error of all weights files."""

from __future__ import annotations

import dataclasses
import hashlib
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

_LONGEST = 300
_LISTED = 5


class WeightsError(ValueError):
    """A weights file that can't be used; the message names the file and says why."""


def printable(text: object) -> str:
    """Text from a foreign file, fit for a message: printable, on one line, not endless."""
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: 2 * _LONGEST])
    return escaped if len(escaped) <= _LONGEST else f"{escaped[:_LONGEST]}…"


def listing(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(printable(name) for name in names[:_LISTED]) + more


FORMAT = "rpfnet_jax"
FORMAT_VERSION = "1"


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

    def override(
        self, norm: str | None = None, adapt: float | None = None, color_range: str | None = None
    ) -> FusionDefaults:
        """The same with other values; None keeps what is there.

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
        training: the configuration of the run that made it, JSON-able; empty when unknown.
        provenance: what happened to it besides training, JSON-able: `converted` (the file it was read from and that
            file's SHA-256), `calibrated` (the patches that its running statistics were measured on).
    """

    model: ModelConfig
    variables: dict[str, Any]
    defaults: FusionDefaults = FusionDefaults()
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


def check_weights_name(path: Path) -> None:
    """Raises ValueError when weights could not be found again under this name; to be called before the work."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: the name must end in .safetensors")


def save_weights(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes a safetensors file: tensors named by their path (`params/stage/cpm/gate/conv/kernel`), float32.

    A reader sees the old file or the whole new one, never half of it.
    """
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
    """The tensors and the metadata of any safetensors file. Nothing in it is executed.

    Raises:
        WeightsError: not a safetensors file, or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return tensors, file.metadata() or {}
    # The others: dtypes that NumPy does not have.
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {printable(error)}") from error


def parse_weights(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> Weights:
    """What `save_weights` wrote to `path`, from what `read_safetensors` found there.

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
        problems = _misfits(tensors, model)
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise WeightsError(f"{path} has unusable metadata: {printable(error)}") from error
    if problems:
        raise WeightsError(f"{path} does not fit its own model configuration: {'; '.join(problems)}")
    return Weights(model, unflatten_dict(tensors, sep="/"), defaults, training, provenance)


def _misfits(tensors: dict[str, np.ndarray], model: ModelConfig) -> list[str]:
    """What a file lacks, has too much of, or has in another shape than the network takes."""
    wanted = variable_shapes(model)
    missing, surplus = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    problems = [f"missing {listing(missing)}"] if missing else []
    problems += [f"unknown {listing(surplus)}"] if surplus else []
    problems += [f"{name} is {value.dtype}" for name, value in tensors.items() if value.dtype != np.float32][:1]
    return problems + [
        f"{name} is {tensors[name].shape} instead of {shape}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]


# The one layer between the head's features and its sigmoid.
_LAST_LAYER = ("params/head/out/kernel", "params/head/out/bias")


class RunOutput:
    """What becomes of a run's variables: network, defaults and contrast of its configuration.

    Example:
        >>> output = RunOutput(json.loads(config.to_json()))
        >>> save_weights("weights.safetensors", output.weights(state.variables()))
    """

    def __init__(self, record: Mapping[str, Any]):
        """Of a configuration, see `configs/base.py`, as its JSON holds it; older ones lack the newest fields.

        Raises:
            ValueError, TypeError, KeyError: a field is missing or has an impossible value.
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
        """The run's variables with the contrast folded into the last layer: F's logits are multiplied by it."""
        if self._contrast != 1:
            flat = flatten_dict(variables, sep="/")
            variables = unflatten_dict(flat | {name: flat[name] * self._contrast for name in _LAST_LAYER}, sep="/")
        return Weights(self._model, variables, self._defaults, self._record, dict(provenance or {}))


def digest_variables(variables: Mapping[str, Any]) -> str:
    """SHA-256 of names, shapes and values of nested arrays, wherever they lie; a run's checkpoints carry it."""
    digest = hashlib.sha256()
    for name, value in sorted(flatten_dict(variables, sep="/").items()):
        array = np.asarray(value)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _arrays(tree: Any) -> Any:
    return {name: _arrays(leaf) for name, leaf in tree.items()} if isinstance(tree, dict) else np.asarray(tree)
