"""RPFNet in JAX/Flax: Residual Prior-driven Frequency-aware Network for image fusion (ACM MM 2025).

    >>> import rpfnet_jax
    >>> net = rpfnet_jax.load("RUNS/flir/weights.safetensors")
    >>> fused = net.fuse("ir.png", "vis.png")

To be imported by themselves: `rpfnet_jax.model`, `losses` and `metrics` (modules and pure functions), `data`,
`training`, `inference`, `reports`, `weights`, and `experiment` and `bulk`, which join them.
"""

from rpfnet_jax.inference import Fuser, load
from rpfnet_jax.model import AuxiliaryDecoder, ModelConfig, RPFNet

__version__ = "0.1.0"

__all__ = ["AuxiliaryDecoder", "Fuser", "ModelConfig", "RPFNet", "__version__", "load"]
