"""RPFNet in JAX/Flax: Residual Prior-driven Frequency-aware Network for image fusion (ACM MM 2025).

    >>> import rpfnet_jax
    >>> net = rpfnet_jax.load()
    >>> fused = net.fuse("ir.png", "vis.png")

Modules to import by themselves: `rpfnet_jax.model`, `losses` and `metrics` (Flax modules and pure functions), `data`,
`training`, `inference`, `reports`, `weights`; `inference.ray`, which needs Ray; and `pipeline`, which joins them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpfnet_jax.inference import Fuser, load
    from rpfnet_jax.model import AuxiliaryDecoder, ModelConfig, RPFNet

__version__ = "0.2.0.dev0"

__all__ = ["AuxiliaryDecoder", "Fuser", "ModelConfig", "RPFNet", "__version__", "load"]

_MODULES = {
    "AuxiliaryDecoder": "rpfnet_jax.model",
    "Fuser": "rpfnet_jax.inference",
    "ModelConfig": "rpfnet_jax.model",
    "RPFNet": "rpfnet_jax.model",
    "load": "rpfnet_jax.inference",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562), so that `rpfnet --help` does not wait for JAX."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
