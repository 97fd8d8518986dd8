"""Trained networks outside this package: ONNX and StableHLO files.

    >>> network = Network.load("flir_small", norm="running")
    >>> Path("fusion.onnx").write_bytes(to_onnx(network))
    >>> Path("fusion.stablehlo").write_bytes(to_stablehlo(network))
    >>> fused = load("fusion.stablehlo").fuse(ir, vis)

Writing ONNX needs the extra `export`; `load` needs nothing of the network's code.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rpfnet_jax.export.exported import Exported, load

if TYPE_CHECKING:
    from rpfnet_jax.export.network import Network
    from rpfnet_jax.export.onnx import to_onnx
    from rpfnet_jax.export.stablehlo import to_stablehlo

__all__ = ["Exported", "Network", "load", "to_onnx", "to_stablehlo"]

_MODULES = {"Network": "network", "to_onnx": "onnx", "to_stablehlo": "stablehlo"}


def __getattr__(name: str) -> Any:
    """Imports what writes files on first use (PEP 562), so that `load` works without the model."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
