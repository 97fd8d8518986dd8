"""How an update is computed: on which devices, in how many pieces, in which precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, UInt8

from rpfnet_jax.model import Execution, Precision
from rpfnet_jax.training.devices import AXIS
from rpfnet_jax.training.state import Networks

Microbatch = tuple[UInt8[Array, "_ h w 1"], UInt8[Array, "_ h w 1"]]
Cut = Callable[[Any, Any], tuple[Array, Array]]


@dataclasses.dataclass(frozen=True)
class Compute:
    """What fits an update to the machine.

    Attributes:
        mesh: of `make_mesh`; its devices share each microbatch. Changes nothing but rounding.
        accumulate: microbatches per update, computed one after the other. Their mean gradient is followed; each has
            batch statistics and batch-wide thresholds of its own, so this is a choice of the recipe as well.
        remat: see `rpfnet_jax.model.Execution`. Changes nothing but rounding.
        precision: as `remat`; changes what is learned as rounding does, 2^-9 of each operand.
        cut: makes the patches, ir and vis_y, of a step's two inputs, within the step; None: these are the patches.
    """

    mesh: Mesh | None = None
    accumulate: int = 1
    remat: bool = False
    precision: Precision = "float32"
    cut: Cut | None = None

    def __post_init__(self) -> None:
        if type(self.accumulate) is not int or self.accumulate < 1:
            raise ValueError(f"compute.accumulate must be a positive number of microbatches, got {self.accumulate!r}")
        try:
            self._execution(None)
        except ValueError as error:
            raise ValueError(f"compute.{error}") from error

    def microbatch(self, batch_size: int) -> int:
        """Patches that are computed at once.

        Raises:
            ValueError: the batch can't be divided into equal microbatches.
        """
        if batch_size % self.accumulate:
            raise ValueError(
                f"compute.accumulate is {self.accumulate}, which does not divide the batch_size of {batch_size}"
            )
        return batch_size // self.accumulate

    def split(self, ir: UInt8[Array, "b h w 1"], vis_y: UInt8[Array, "b h w 1"]) -> list[Microbatch]:
        """A batch in its microbatches; of the last, smaller batch of an epoch they may be fewer and unequal."""
        if self.accumulate == 1:
            return [(ir, vis_y)]
        size = -(-len(ir) // self.accumulate)
        cuts = list(range(size, len(ir), size))
        return list(zip(jnp.split(ir, cuts), jnp.split(vis_y, cuts), strict=True))

    def divides(self, microbatches: list[Microbatch]) -> bool:
        """Whether the devices of the mesh can share each of them."""
        return self.mesh is not None and not any(len(ir) % self.mesh.size for ir, _ in microbatches)

    def prepare(self, networks: Networks, spread: bool) -> Networks:
        """The same networks, computed as this says, by each device by itself or, with `spread`, by all together."""
        execution = self._execution(AXIS if spread else None)
        clones: list[Any] = [network and network.clone(execution=execution) for network in networks]
        return Networks(*clones)

    def compiler_options(self) -> dict[str, str] | None:
        """What XLA must be told; None where it is to do as always.

        On CPU it removes, before it merges and orders, the barriers that keep a stage's second computation apart from
        the first and microbatches one after the other: without this neither would save anything.
        """
        if jax.default_backend() != "cpu" or not (self.remat or self.accumulate > 1):
            return None
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}

    def _execution(self, axis: str | None) -> Execution:
        return Execution(axis, self.remat, self.precision)
