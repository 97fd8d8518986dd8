"""The metrics of whole batches at once: jitted JAX in float32, against the float64 reference one level above.

Not imported by `rpfnet_jax.metrics`, which needs no JAX.
"""

from rpfnet_jax.metrics.batched.sheet import COLUMNS, measure_batch

__all__ = ["COLUMNS", "measure_batch"]
