"""The network's configuration: every choice in which the two readings or the paper's ablations differ is a field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from rpfnet_jax.ops.convolution import Precision

Reading = Literal["paper", "released"]

MAX_STAGES = 64
MAX_CHANNELS = 4096
# Of which the last smoothing reaches 126 pixels.
MAX_DETAILS = 6


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of an `RPFNet`. The defaults are the `paper` reading with the sizes of the paper.

    Attributes:
        channels: width of both branches; a multiple of 4. Paper and released code: 32.
        stages: N, the number of CPM-RPM-FDFM iterations. Paper: 3.
        share_stages: True iterates one block N times (running statistics are kept per stage all the same);
            False gives each stage its own weights.
        gate_kernel: side of the CPM gate's convolution, Eq. 2. Paper: 3. Released code: 1.
        attention: whether the RPM applies channel and spatial attention, Eq. 3. The released code computes
            and drops it: its parameters exist, its result is never used.
        merge: how the RPM joins its three dilated convolutions: their `sum` (Eq. 3), or `concat` followed by
            a 1x1 convolution (released code).
        spectral_input: what the FDFM transforms: the `refined` features CB3x3(x) (Eq. 4), or its `raw` input x
            (released code).
        fusion_block: what the fusion branch consists of: the `fdfm` (Eq. 4), or a `transformer` block of the same
            width in its place (ablation, Case 6).
        cpm: False leaves the CPM out: both branches go from stage to stage without hearing of each other and meet in
            the sum before the head (ablation, Case 7).
        residual_prior: False leaves the whole residual branch out: no residual map, stem, RPM, and no sum before the
            head (ablation, Case 8). There is then nothing that a CPM could exchange: needs `cpm` False.
        norm: the N of every CB: `batch` normalisation (both readings), or `none`: its convolution, with a bias where
            the paper has one, and its activation alone. A network without norms has no statistics: each norm mode
            computes the same, and a picture's darkness is neither lifted nor lost.
        base: what the head's output is added to before its sigmoid: `none` (both readings), or the logit of the
            `exposed_sum` of both sources, so that the network only says where F differs from that.
        details: how many scales of both sources' details (`rpfnet_jax.starlet`) the head weighs, pixel by pixel, and
            adds to its output. 0 (both readings): none. Needs a base.
    """

    channels: int = 32
    stages: int = 3
    share_stages: bool = True
    gate_kernel: int = 3
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
        # Checked, because these values also come from files: as floats or lists they would fail somewhere inside JAX.
        for name in ("channels", "stages", "details"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"model.{name} must be int, got {getattr(self, name)!r}")
        for name in ("share_stages", "attention", "cpm", "residual_prior"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"model.{name} must be bool, got {getattr(self, name)!r}")
        if not 4 <= self.channels <= MAX_CHANNELS or self.channels % 4:
            raise ValueError(
                f"model.channels must be a positive multiple of 4, at most {MAX_CHANNELS}; got {self.channels}"
            )
        # Stages are unrolled: an absurd number from a foreign file would compile for ever.
        if not 1 <= self.stages <= MAX_STAGES:
            raise ValueError(f"model.stages must be from 1 to {MAX_STAGES}, got {self.stages}")
        if type(self.gate_kernel) is not int or self.gate_kernel not in (1, 3):
            raise ValueError(f"model.gate_kernel must be 1 or 3, got {self.gate_kernel}")
        if self.merge not in ("sum", "concat"):
            raise ValueError(f"model.merge must be 'sum' or 'concat', got {self.merge!r}")
        if self.spectral_input not in ("refined", "raw"):
            raise ValueError(f"model.spectral_input must be 'refined' or 'raw', got {self.spectral_input!r}")
        if self.fusion_block not in ("fdfm", "transformer"):
            raise ValueError(f"model.fusion_block must be 'fdfm' or 'transformer', got {self.fusion_block!r}")
        if self.norm not in ("batch", "none"):
            raise ValueError(f"model.norm must be 'batch' or 'none', got {self.norm!r}")
        if self.base not in ("none", "exposed_sum"):
            raise ValueError(f"model.base must be 'none' or 'exposed_sum', got {self.base!r}")
        if not 0 <= self.details <= MAX_DETAILS:
            raise ValueError(f"model.details must be from 0 to {MAX_DETAILS}, got {self.details}")
        if self.details and self.base == "none":
            raise ValueError("model.details must be 0 where model.base is 'none': there is nothing to add details to")
        if self.cpm and not self.residual_prior:
            raise ValueError("model.cpm must be False where model.residual_prior is: it promotes the residual branch")

    @classmethod
    def preset(cls, reading: Reading, **overrides: Any) -> ModelConfig:
        """The configuration of one reading, with single fields replaced.

        Args:
            reading: `paper` (the paper's equations) or `released` (what the authors' code computes).
            **overrides: fields of this class; a value of None keeps the reading's own.

        Raises:
            ValueError: unknown reading, or a value that a field does not take.
            TypeError: a field that does not exist.
        """
        if reading not in _READINGS:
            raise ValueError(f"model.reading must be one of {sorted(_READINGS)}, got {reading!r}")
        chosen = {name: value for name, value in overrides.items() if value is not None}
        return cls(**{**_READINGS[reading], **chosen})

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> ModelConfig:
        """The preset named by the field `reading`, with the other fields replaced: the `model` part of a run's config.

        Raises:
            ValueError, TypeError: as `preset`.
        """
        return cls.preset(fields["reading"], **{name: value for name, value in fields.items() if name != "reading"})

    def norm_mode(self, asked: Any) -> Any:
        """The `NormMode` that is computed where one is asked for: a network without norms has only `none`."""
        return "none" if self.norm == "none" else asked

    @property
    def statistics_rows(self) -> int:
        """Rows of running statistics in each norm layer of a stage: N when the stages share their weights."""
        return self.stages if self.share_stages else 1


_READINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {"gate_kernel": 1, "attention": False, "merge": "concat", "spectral_input": "raw"},
}


@dataclasses.dataclass(frozen=True)
class RuntimeOptions:
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
