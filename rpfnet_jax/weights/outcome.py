"""From a training run's configuration and variables to the weights that it hands out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights.store import FusionDefaults, Weights

# The one layer between the head's features and its sigmoid.
_LAST_LAYER = ("params/head/out/kernel", "params/head/out/bias")


class Outcome:
    """What becomes of a run's variables: network, defaults and contrast of its configuration.

    Example:
        >>> outcome = Outcome(json.loads(config.to_json()))
        >>> save_weights("weights.safetensors", outcome.weights(state.variables()))
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
