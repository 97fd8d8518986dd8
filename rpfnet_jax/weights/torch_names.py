"""Conversion between our variables and the tensors of the authors' PyTorch network, a bijection.

Only the `released` reading has torch names. Its three iterations share one block in torch, and one BatchNorm with it;
here the same running statistics become one row per stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rpfnet_jax.model import ModelConfig, variable_shapes
from rpfnet_jax.weights.store import WeightsError, misfits

_CPM, _RPM, _FDFM = (f"iteration_block.{module}" for module in ("cross_promotion", "residual_branch", "fourier_branch"))
# Our ConvBlock -> torch's convolution and batch normalisation.
_BLOCKS = {
    "residual_stem": ("init_spatial.0", "init_spatial.1"),
    "fusion_stem": ("init_freq.0", "init_freq.1"),
    "stage/cpm/gate": (f"{_CPM}.spatial_to_freq.0", f"{_CPM}.spatial_to_freq.1"),
    "stage/cpm/context": (f"{_CPM}.freq_to_spatial.0", f"{_CPM}.freq_to_spatial.1"),
    "stage/rpm/dilated_1": (f"{_RPM}.dilated_convs.0.0", f"{_RPM}.dilated_convs.0.1"),
    "stage/rpm/dilated_3": (f"{_RPM}.dilated_convs.1.0", f"{_RPM}.dilated_convs.1.1"),
    "stage/rpm/dilated_5": (f"{_RPM}.dilated_convs.2.0", f"{_RPM}.dilated_convs.2.1"),
    "stage/rpm/spatial_attention/reduce": (
        f"{_RPM}.spatial_attention.spatial_net.0",
        f"{_RPM}.spatial_attention.spatial_net.1",
    ),
    "stage/fdfm/local": (f"{_FDFM}.conv_spatial.0", f"{_FDFM}.conv_spatial.1"),
    "stage/fdfm/frequency": (f"{_FDFM}.conv_layer", f"{_FDFM}.bn"),
    "head/block_0": ("decoder.0", "decoder.1"),
    "head/block_1": ("decoder.3", "decoder.4"),
}
# Our layers outside a ConvBlock -> torch's.
_LAYERS = {
    "stage/rpm/merge": f"{_RPM}.fusion",
    "stage/rpm/spatial_attention/map": f"{_RPM}.spatial_attention.spatial_net.3",
    "stage/rpm/channel_attention/squeeze": f"{_RPM}.channel_attention.fc.0",
    "stage/rpm/channel_attention/excite": f"{_RPM}.channel_attention.fc.2",
    "head/out": "decoder.6",
}

# Counts training batches. torch reads it only where a BatchNorm has no momentum, and all of these have one.
_DROPPED_SUFFIX = ".num_batches_tracked"


def _torch_names() -> dict[str, str]:
    """Maps the path of each of our variables to its torch name."""
    layers = dict(_LAYERS)
    names = {}
    for path, (convolution, norm) in _BLOCKS.items():
        layers[f"{path}/conv"] = convolution
        names[f"params/{path}/norm/scale"] = f"{norm}.weight"
        names[f"params/{path}/norm/bias"] = f"{norm}.bias"
        names[f"batch_stats/{path}/norm/mean"] = f"{norm}.running_mean"
        names[f"batch_stats/{path}/norm/var"] = f"{norm}.running_var"
    for path, layer in layers.items():
        names[f"params/{path}/kernel"] = f"{layer}.weight"
        names[f"params/{path}/bias"] = f"{layer}.bias"
    return names


_TORCH_NAMES = _torch_names()


def from_torch(tensors: Mapping[str, np.ndarray], model: ModelConfig) -> tuple[dict[str, Any], list[str]]:
    """Converts the tensors of the authors' network into Linen variables.

    Args:
        tensors: torch name -> array in torch's layout (OIHW kernels). The prefix `module.` of DataParallel is removed.
        model: the released reading, of the width and number of stages of the tensors.

    Returns:
        `params` and `batch_stats` as float32, and the names of the tensors that were dropped on purpose.

    Raises:
        WeightsError: tensors are missing, unknown, or of another shape or dtype than the network's; they are named.
    """
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    dropped = sorted(name for name in tensors if name.endswith(_DROPPED_SUFFIX))
    shapes = variable_shapes(model)
    kept = {name: value for name, value in tensors.items() if name not in dropped}
    if problems := misfits(kept, {_TORCH_NAMES[path]: _torch_shape(path, shape) for path, shape in shapes.items()}):
        raise WeightsError(f"does not hold the authors' network: {'; '.join(problems)}")
    flat = {path: _from_torch(path, kept[_TORCH_NAMES[path]], shape) for path, shape in shapes.items()}
    return unflatten_dict(flat, sep="/"), dropped


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inverts `from_torch`: torch name -> float32 array in torch's layout.

    Args:
        variables: `params`, and `batch_stats` or not, of the released reading with shared stages; those of an
            `AuxiliaryDecoder` get the names of the head.

    Raises:
        ValueError: a variable has no torch name (another reading), or the stages have different running statistics,
            which torch's single BatchNorm can't hold.
    """
    flat = {path: np.asarray(value) for path, value in flatten_dict(dict(variables), sep="/").items()}
    nameless = sorted(path for path in flat if path not in _TORCH_NAMES)
    if nameless:
        raise ValueError(f"the authors' network has no place for {', '.join(nameless)}")
    return {_TORCH_NAMES[path]: _to_torch(path, value) for path, value in flat.items()}


def _torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if path.startswith("batch_stats/"):
        return shape[1:]
    return (*shape[:-3:-1], *shape[:-2]) if len(shape) > 1 else shape


def _from_torch(path: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    # Always a copy: the tensors are read-only views of the file's bytes.
    if path.startswith("batch_stats/"):
        return np.broadcast_to(value, shape).copy()
    # Kernels go from (out, in, ...) to (..., in, out).
    return np.array(np.moveaxis(value, (1, 0), (-2, -1)) if value.ndim > 1 else value, order="C")


def _to_torch(path: str, value: np.ndarray) -> np.ndarray:
    if path.startswith("batch_stats/"):
        if (value != value[0]).any():
            raise ValueError(f"{path} differs between the stages; torch's single BatchNorm can't hold that")
        return value[0]
    return np.ascontiguousarray(np.moveaxis(value, (-2, -1), (1, 0))) if value.ndim > 1 else value
