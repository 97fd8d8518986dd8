"""What a compiled GPU program consists of, read from its text, and the cards that programs are compiled for."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rpfnet_jax.training.step import AXIS


@dataclasses.dataclass(frozen=True)
class Card:
    """The facts of a GPU that XLA compiles for, from NVIDIA's data sheets and CUDA's tables of compute capabilities.

    Attributes:
        description: the name that the driver gives.
        capability: major and minor compute capability.
        processors: streaming multiprocessors.
        lanes: float32 units of each.
        shared_memory: bytes of each processor that its blocks share.
        bandwidth: of the memory, bytes per second.
        cache: bytes of the second-level cache.
        clock: in GHz.
        memory: bytes.
    """

    description: str
    capability: tuple[int, int]
    processors: int
    lanes: int
    shared_memory: int
    bandwidth: int
    cache: int
    clock: float
    memory: int

    def target(self) -> str:
        """Returns the description in the text form of XLA's `GpuTargetConfig`."""
        facts = {
            **{"threads_per_block_limit": 1024, "threads_per_warp": 32, "threads_per_core_limit": 2048},
            **{"shared_memory_per_block": 49152, "shared_memory_per_core": self.shared_memory},
            # A block may have all but one KiB.
            "shared_memory_per_block_optin": self.shared_memory - 1024,
            **{"core_count": self.processors, "fpus_per_core": self.lanes, "clock_rate_ghz": self.clock},
            **{"block_dim_limit_x": 2**31 - 1, "block_dim_limit_y": 65535, "block_dim_limit_z": 65535},
            **{"memory_bandwidth": self.bandwidth, "l2_cache_size": self.cache, "device_memory_size": self.memory},
            **{"registers_per_core_limit": 65536, "registers_per_block_limit": 65536},
        }
        major, minor = self.capability
        lines = [f"  {name}: {value}" for name, value in facts.items()]
        return "\n".join(
            [
                "gpu_device_info {",
                *lines,
                f"  cuda_compute_capability {{ major: {major} minor: {minor} }}",
                "}",
                'platform_name: "CUDA"',
                "dnn_version_info { major: 9 minor: 10 }",
                "runtime_version { major: 12 minor: 8 patch: 0 }",
                f'device_description_str: "{self.description}"',
            ]
        )


CARDS = {
    "h100": Card("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 233472, 3352320000000, 52428800, 1.98, 84942979072),
    "a100": Card("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 167936, 2039000000000, 41943040, 1.41, 85100000000),
}


@functools.cache
def cards(card: str, count: int) -> Mesh:
    """Returns a mesh of imaginary cards, over which arrays without data can be spread."""
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=CARDS[card].target(), topology=f"1x1x{count}"
    )
    return Mesh(np.array(topology.devices), (AXIS,))


def placed(tree: Any, mesh: Mesh, spread: bool = False) -> Any:
    """Returns shapes and dtypes of arrays that lie on every card or, with `spread`, are divided among them."""
    sharding = NamedSharding(mesh, PartitionSpec(AXIS) if spread else PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$", re.MULTILINE)
_COMPUTATION = re.compile(r"^%?([\w.-]+) \(.*?\) -> .*? \{$(.*?)^\}", re.MULTILINE | re.DOTALL)
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "c64": 8, "s64": 8, "u64": 8}
# They only name memory.
_FREE = {"parameter", "constant", "get-tuple-element", "bitcast", "tuple", "after-all", "partition-id", "replica-id"}
_LARGE = 1_000_000
# None of them belongs into our programs: transfers to the host, loops, whole batches gathered on a device, and
# convolutions that XLA does not hand over to cuDNN.
_FORBIDDEN = re.compile(r"while|conditional|all-gather.*|all-to-all.*|infeed|outfeed|send|recv|convolution")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one call of a program does on each card.

    Attributes:
        launches: kernels and library calls.
        fusions: those of the launches that are XLA's own kernels.
        convolutions: calls of cuDNN.
        windows: sides of their windows.
        transforms: calls of cuFFT.
        moves: copies and transpositions of over 1 MB that do nothing else.
        reductions: all-reduces between cards.
        temporary: bytes beside arguments and results.
        traffic: bytes of all operands, or of the parts of them that are read, and results. Two-dimensional transforms
            read and write everything twice.
        donated: whether the results take the place of arguments.
        forbidden: operations that should not be there.
    """

    launches: int
    fusions: int
    convolutions: int
    windows: tuple[int, ...]
    transforms: int
    moves: int
    reductions: int
    temporary: int
    traffic: int
    donated: bool
    forbidden: tuple[str, ...]

    @classmethod
    def of(cls, program: jax.stages.Compiled) -> Facts:
        """Reads a compiled program."""
        memory: Any = program.memory_analysis()
        donated = memory.alias_size_in_bytes >= 0.99 * memory.output_size_in_bytes
        return cls.read(program.as_text(), memory.temp_size_in_bytes, donated)

    @classmethod
    def read(cls, text: str, temporary: int, donated: bool) -> Facts:
        """Reads the text of an optimised program."""
        sizes: dict[str, int] = {}
        read = {name: _bytes_read(body) for name, body in _COMPUTATION.findall(text)}
        kinds: collections.Counter[str] = collections.Counter()
        traffic = moves = 0
        for name, shape, kind, rest in _INSTRUCTION.findall(text[text.index("\nENTRY") :]):
            sizes[name] = _size(shape)
            if kind in _FREE or kind.endswith("-done"):
                continue
            target = re.search(r'custom_call_target="([^"]*)"', rest)
            kinds[target[1] if target else kind] += 1
            operands = [sizes.get(operand, 0) for operand in re.findall(r"%([\w.-]+)", rest.split("),")[0])]
            if called := re.search(r"calls=%?([\w.-]+)", rest):
                operands = [min(size, read[called[1]].get(place, size)) for place, size in enumerate(operands)]
            passes = 2 if kind == "fft" and re.search(r"fft_length=\{\d+,\d+", rest) else 1
            traffic += passes * (sizes[name] + sum(operands))
            moved = kind == "copy" or name.startswith(("wrapped_transpose", "loop_transpose", "wrapped_copy"))
            moves += moved and sizes[name] > _LARGE
        return cls(
            launches=sum(kinds.values()),
            fusions=kinds["fusion"],
            convolutions=sum(count for kind, count in kinds.items() if kind.startswith("__cudnn$conv")),
            windows=tuple(sorted({int(side) for side in re.findall(r"window=\{size=(\d+)x", text)})),
            transforms=kinds["fft"],
            moves=moves,
            reductions=kinds["all-reduce"] + kinds["all-reduce-start"],
            temporary=temporary,
            traffic=traffic,
            donated=donated,
            forbidden=tuple(sorted(kind for kind in kinds if _FORBIDDEN.fullmatch(kind))),
        )

    def bound(self, card: str) -> float:
        """Returns the seconds that the card's memory needs for the traffic, the least that a call can take."""
        return self.traffic / CARDS[card].bandwidth


def _bytes_read(body: str) -> dict[int, int]:
    """Finds the parameters of a fused computation of which it reads slices only: place -> bytes of those."""
    instructions = _INSTRUCTION.findall(body)
    read = {}
    for name, _, kind, rest in instructions:
        if kind == "parameter":
            users = [user for user in instructions if re.search(rf"%{re.escape(name)}\b(?![.\w-])", user[3])]
            if users and all(user[2] in ("slice", "dynamic-slice", "gather") for user in users):
                read[int(rest.split(")")[0])] = sum(_size(user[1]) for user in users)
    return read


def _size(shape: str) -> int:
    """Sums up the bytes of an array or tuple."""
    counts = ((kind, [int(side) for side in sides.split(",") if side]) for kind, sides in _ARRAY.findall(shape))
    return sum(_BYTES.get(kind, 0) * int(np.prod(sides, dtype=np.int64)) for kind, sides in counts)
