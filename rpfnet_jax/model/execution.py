"""How a network is computed, as opposed to what it computes."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Execution:
    """What training chooses for its own sake; not in `ModelConfig`, since it does not travel with the weights.

    Attributes:
        axis: the mesh axis that the batch is spread over, inside `jax.shard_map`; `batch` statistics are then those of
            all its devices. None: all of the batch is here.
        remat: True keeps of each stage only its inputs for the gradient and computes it again there: less memory, more
            time, the same values.
        precision: what the convolutions over pixels multiply. `bfloat16` rounds their operands, forwards and backwards,
            and sums and returns float32; spectra and their convolution, norms, attention weights and parameters are
            float32 either way.
    """

    axis: str | None = None
    remat: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if type(self.remat) is not bool:
            raise ValueError(f"remat must be bool, got {self.remat!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}; got {self.precision!r}")
