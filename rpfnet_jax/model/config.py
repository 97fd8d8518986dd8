"""Configuration of the network: every difference between the two readings and every ablation is a field."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from rpfnet_jax.ops.convolution import Precision
from rpfnet_jax.ops.settings import Reading, ReadingConfig, check_fields

__all__ = ["ModelConfig", "Reading", "RuntimeOptions"]

# Limits for values from foreign files: stages are unrolled, so that an absurd number of them would compile for ever.
_MAX_STAGES = 64
_MAX_CHANNELS = 4096
# The smoothing of scale 6 reaches 126 pixels.
_MAX_DETAILS = 6


@dataclasses.dataclass(frozen=True)
class ModelConfig(ReadingConfig):
    """Architecture of an `RPFNet`. The defaults are the `paper` reading at the size used in the paper.

    Attributes:
        channels: width of both branches; a multiple of 4. Paper and released code: 32.
        stages: N, the number of CPM-RPM-FDFM iterations. Paper: 3.
        share_stages: True iterates one block N times, with running statistics for each stage; False gives each stage
            its own weights.
        gate_kernel: side of the convolution in the CPM's gate, Eq. 2. Paper: 3. Released code: 1.
        attention: whether the RPM applies channel and spatial attention, Eq. 3. The released code computes it and drops
            the result: the parameters exist, but have no effect.
        merge: how the RPM joins its three dilated convolutions: their `sum` (Eq. 3), or `concat` followed by a 1x1
            convolution (released code).
        spectral_input: what the FDFM transforms: the `refined` features CB3x3(x) (Eq. 4), or its `raw` input x
            (released code).
        fusion_block: the module of the fusion branch: the `fdfm` (Eq. 4), or a `transformer` block of the same width
            (ablation, Case 6).
        cpm: False removes the CPM: the branches stay separate until the sum before the head (ablation, Case 7).
        residual_prior: False removes the whole residual branch: residual map, stem, RPM and the sum before the head
            (ablation, Case 8). A CPM then has nothing to exchange, so `cpm` must be False.
        norm: `batch` normalisation in every CB (both readings), or `none`: a CB is then a convolution, with a bias
            where the paper has one, and an activation. A network without norms has no statistics: all norm modes
            compute the same, and dark images are neither brightened nor darkened further.
        base: what is added to the head's output before its sigmoid: `none` (both readings), or the logit of the
            `exposed_sum` of both sources, so that the network only learns how F differs from that.
        details: number of scales of both sources' `starlet` details that the head weighs pixel by pixel and adds to its
            output; 0 (both readings): none. Needs a base.
    """

    section: ClassVar[str] = "model"
    released: ClassVar = {"gate_kernel": 1, "attention": False, "merge": "concat", "spectral_input": "raw"}

    channels: int = 32
    stages: int = 3
    share_stages: bool = True
    gate_kernel: Literal[1, 3] = 3
    attention: bool = True
    merge: Literal["sum", "concat"] = "sum"
    spectral_input: Literal["refined", "raw"] = "refined"
    fusion_block: Literal["fdfm", "transformer"] = "fdfm"
    cpm: bool = True
    residual_prior: bool = True
    norm: Literal["batch", "none"] = "batch"
    base: Literal["none", "exposed_sum"] = "none"
    details: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 4 <= self.channels <= _MAX_CHANNELS or self.channels % 4:
            raise ValueError(
                f"model.channels must be a positive multiple of 4, at most {_MAX_CHANNELS}; got {self.channels}"
            )
        if not 1 <= self.stages <= _MAX_STAGES:
            raise ValueError(f"model.stages must be from 1 to {_MAX_STAGES}, got {self.stages}")
        if not 0 <= self.details <= _MAX_DETAILS:
            raise ValueError(f"model.details must be from 0 to {_MAX_DETAILS}, got {self.details}")
        if self.details and self.base == "none":
            raise ValueError("model.details must be 0 where model.base is 'none': there is nothing to add details to")
        if self.cpm and not self.residual_prior:
            raise ValueError("model.cpm must be False where model.residual_prior is: it needs the residual branch")

    def norm_mode(self, requested: Any) -> Any:
        """Returns the `NormMode` that is computed: the requested one, or `none` in a network without norms."""
        return "none" if self.norm == "none" else requested

    @property
    def statistics_rows(self) -> int:
        """Rows of running statistics in each norm layer of a stage: N when the stages share their weights."""
        return self.stages if self.share_stages else 1


@dataclasses.dataclass(frozen=True)
class RuntimeOptions:
    """Runtime options set by training. Not in `ModelConfig`, since they do not belong to the weights.

    Attributes:
        axis: mesh axis over which the batch is sharded, inside `jax.shard_map`; `batch` statistics are then those of
            all its devices. None: the whole batch is here.
        remat: True keeps only the inputs of each stage for the gradient and recomputes the rest: less memory, more
            time, the same values.
        precision: precision of the convolutions over pixels. `bfloat16` rounds their operands, forwards and backwards,
            and sums and returns float32; spectra and their convolution, norms, attention weights and parameters are
            float32 either way.
    """

    axis: str | None = None
    remat: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_fields(self)
