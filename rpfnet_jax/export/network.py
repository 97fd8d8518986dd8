"""What is exported: a trained network with its norm mode, and the record of it that the file carries."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from rpfnet_jax import __version__
from rpfnet_jax.model import MIN_SIDE, ModelConfig, fold
from rpfnet_jax.weights import Weights, load_weights


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to export.

    Attributes:
        weights: as loaded, with `defaults` that have the norm mode to export.
        size: (height, width) of the only images that the file will take; None: any.
    """

    weights: Weights
    size: tuple[int, int] | None = None

    @classmethod
    def load(
        cls, path: str | os.PathLike[str] | None, norm: str | None = None, size: tuple[int, int] | None = None
    ) -> Network:
        """Loads weights by name or file; `norm` is `image`, `running` or None for the weights' own default.

        Raises:
            FileNotFoundError, WeightsError: as `load_weights`.
            ValueError: a norm mode that can't be exported, or a side shorter than 16.
        """
        weights = load_weights(path)
        defaults = weights.defaults.override(norm)
        if size is not None and min(size) < MIN_SIDE:
            raise ValueError(f"height and width must be at least {MIN_SIDE}, got {size[0]}x{size[1]}")
        if weights.model.norm_mode(defaults.norm) == "adaptive":
            raise ValueError("networks are exported with norm=running or norm=image, not adaptive")
        return cls(dataclasses.replace(weights, defaults=defaults), size)

    def computed(self) -> tuple[ModelConfig, dict[str, Any], str]:
        """Returns configuration, variables (NumPy arrays) and norm mode to compute; running norms are folded."""
        model, variables = self.weights.model, jax.tree.map(np.asarray, self.weights.variables)
        norm = model.norm_mode(self.weights.defaults.norm)
        if norm == "running":
            return *fold(model, variables), "folded"
        return model, variables, norm

    def record(self) -> dict[str, str]:
        """Describes the network: names and values of the file's metadata."""
        digest = hashlib.sha256()
        for name, value in sorted(flatten_dict(self.weights.variables, sep="/").items()):
            digest.update(f"{name} {value.shape}".encode() + np.asarray(value, "<f4").tobytes())
        return {
            "producer": f"rpfnet_jax {__version__}",
            "min_side": str(MIN_SIDE),
            "weights_sha256": digest.hexdigest(),
            "model": json.dumps(dataclasses.asdict(self.weights.model)),
            "defaults": json.dumps(dataclasses.asdict(self.weights.defaults)),
        }
