"""Reading a file of `torch.save` without torch and without executing anything in it.

Such a file is a zip of one pickle and the raw bytes of each storage. A pickle is a program: it may name any function
and call it. Here only the instructions that torch's own pickles need are accepted, every name outside a short list is
refused, and the names on the list stand for inert classes of this file, not for what torch calls by them.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rpfnet_jax.weights.errors import WeightsError

# Two hundred times the pickle of the released file.
_MAX_PICKLE_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 32
_DTYPES: dict[str, np.dtype] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

_OPCODES = frozenset(
    """
    PROTO FRAME STOP MARK POP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID
    """.split()  # noqa: SIM905 (a list of 38 lines)
)


class TorchCheckpoint(NamedTuple):
    """What a torch file holds.

    Attributes:
        tensors: torch name -> array, float32 or int64.
        attributes: the integers that a pickled module keeps besides its tensors, such as `num_iterations`; empty for a
            state dict.
    """

    tensors: dict[str, np.ndarray]
    attributes: dict[str, int]


def read_torch_archive(path: Path) -> TorchCheckpoint:
    """Reads a pickled module or a state dict (bare, or beside an optimizer's in one dict).

    Args:
        path: a file that torch >= 1.6 saved.

    Raises:
        WeightsError: truncated, compressed or otherwise no such zip; its pickle uses an instruction, a function or a
            class outside the list (which is named); or there is no single set of tensors in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path.stat().st_size)
            data = archive.read(members["data.pkl"])
            _check_instructions(data)
            return _checkpoint(_Reader(data, archive, members).load())
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(f"{path} is a damaged or truncated torch file: {error}") from error
    except RecursionError:
        raise WeightsError(f"{path}: its pickle is nested too deeply") from None
    # Whatever a malformed pickle leads the interpreter and the stand-ins to; none of it is a bug to be traced.
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
        raise WeightsError(f"{path}: its pickle is malformed: {error}") from error


def _members(archive: zipfile.ZipFile, file_size: int) -> dict[str, zipfile.ZipInfo]:
    """The zip's members by name, without the folder that torch puts them in."""
    infos = archive.infolist()
    packed = [info.filename for info in infos if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise WeightsError(f"{packed[0]} is compressed, which torch never does; not unpacked, it may be a zip bomb")
    total = sum(info.file_size for info in infos)
    # Only members that overlap, the other kind of bomb, can add up to more than the file they are in.
    if total > file_size:
        raise WeightsError(f"claims {total} bytes of content in a file of {file_size}; it may be a zip bomb")
    pickles = [info for info in infos if info.filename.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise WeightsError("is a zip, but not one of torch.save: it has no FOLDER/data.pkl")
    if pickles[0].file_size > _MAX_PICKLE_BYTES:
        raise WeightsError(f"its pickle has {pickles[0].file_size} bytes, more than {_MAX_PICKLE_BYTES}")
    folder = pickles[0].filename.removesuffix("data.pkl")
    members = {info.filename.removeprefix(folder): info for info in infos if info.filename.startswith(folder)}
    if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
        raise WeightsError("was saved on a big-endian machine; save it again on a little-endian one")
    return members


def _check_instructions(data: bytes) -> None:
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise WeightsError(f"refused: its pickle uses {opcode.name} (byte {position}), which torch never writes")
        # The interpreter allocates its memo up to the index asked for.
        if opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(data):
            raise WeightsError(f"refused: its pickle asks for memo slot {argument}")


class _Storage(NamedTuple):
    values: np.ndarray


class _Tensor:
    """A tensor; not a bare array, which a pickle could change through `__setstate__`."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray):
        self.array = array


class _Module:
    """Stands for an `nn.Module` of any class: keeps its state."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise WeightsError("its pickle has a module with a state that is no dict of names")
        self.state = state


class _Dict(collections.OrderedDict):
    """Stands for OrderedDict; torch hangs `_metadata` on it, which nobody needs."""

    def __setstate__(self, state: Any) -> None:
        pass


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or not (isinstance(size, tuple) and isinstance(stride, tuple)):
        raise WeightsError("its pickle builds a tensor from something that is no storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(n, int) and 0 <= n < 2**40 for n in numbers):
        raise WeightsError(f"a tensor has the impossible size {size} or stride {stride}")
    values = storage.values
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # The second condition keeps a stride of 0 from turning few bytes into many.
    if math.prod(size) and (last >= values.size or math.prod(size) > values.size):
        raise WeightsError(f"a tensor of size {size} does not fit its storage of {values.size} values")
    strides = [step * values.itemsize for step in stride]
    return _Tensor(np.lib.stride_tricks.as_strided(values[offset:], size, strides).copy())


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _ignored(*_: Any) -> None:
    """Stands for `set`, in which modules keep names of buffers that are not saved."""


_MODULES = {
    "net": "ResidualBranch FourierUnit ChannelAttention CrossPromotionModule SpatialAttention FusionNetwork "
    "IterationBlock",
    "torch.nn.modules.activation": "ReLU Sigmoid",
    "torch.nn.modules.batchnorm": "BatchNorm2d",
    "torch.nn.modules.container": "ModuleList Sequential",
    "torch.nn.modules.conv": "Conv2d",
    "torch.nn.modules.linear": "Linear",
    "torch.nn.modules.pooling": "AdaptiveAvgPool2d",
    "torch.nn.parallel.data_parallel": "DataParallel",
}
_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, name): _Module for module, names in _MODULES.items() for name in names.split()},
    **{("torch", name): type(name, (), {}) for name in _DTYPES},
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): _Dict,
    ("__builtin__", "set"): _ignored,
    ("builtins", "set"): _ignored,
}


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]):
        super().__init__(io.BytesIO(data))
        self._archive, self._members = archive, members
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if module.startswith("torch") and name.endswith("Storage"):
            raise WeightsError(f"has tensors of {module}.{name}; only float32 is read: save it after model.float()")
        raise WeightsError(
            f"refused: its pickle refers to {module}.{name}, which is none of the known tensor and module names. If "
            "you trust the file, load it in torch and save model.state_dict()"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[2], str)):
            raise WeightsError("its pickle refers to something outside that is no storage")
        _, kind, key, _, count = pid
        dtype = _DTYPES.get(getattr(kind, "__name__", ""))
        if dtype is None:
            raise WeightsError(f"storage {key} has an unknown type")
        if key not in self._storages:
            member = self._members.get(f"data/{key}")
            if member is None:
                raise WeightsError(f"storage data/{key} is missing from the zip")
            raw = self._archive.read(member)
            if len(raw) % dtype.itemsize:
                raise WeightsError(f"storage data/{key} has {len(raw)} bytes, no multiple of {dtype.itemsize}")
            self._storages[key] = _Storage(np.frombuffer(raw, dtype))
        storage = self._storages[key]
        if storage.values.dtype != dtype or storage.values.size != count:
            raise WeightsError(
                f"storage data/{key} holds {storage.values.size} {storage.values.dtype} values, not {count} {dtype}"
            )
        return storage


def _checkpoint(root: Any) -> TorchCheckpoint:
    candidates = {"": root}
    if isinstance(root, dict) and not any(isinstance(value, _Tensor) for value in root.values()):
        # A training script's own dict: {"model": ..., "optimizer": ..., "epoch": ...}.
        candidates = {str(key): value for key, value in root.items() if _tensors(value)}
    if len(candidates) != 1:
        found = ", ".join(candidates) or "none"
        raise WeightsError(f"needs one module or state dict; sets of tensors found: {found}. Save model.state_dict()")
    (network,) = candidates.values()
    tensors = _tensors(network)
    if not tensors:
        raise WeightsError("holds no tensors")
    attributes = network.state if isinstance(network, _Module) else {}
    return TorchCheckpoint(
        tensors,
        {name: value for name, value in attributes.items() if isinstance(value, int) and not isinstance(value, bool)},
    )


def _tensors(network: Any) -> dict[str, np.ndarray]:
    if isinstance(network, _Module):
        return dict(_walk(network, "", 0))
    if isinstance(network, dict):
        return {name: value.array for name, value in network.items() if isinstance(value, _Tensor)}
    return {}


def _walk(module: _Module, prefix: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    # A module that contains itself would never end.
    if depth > _MAX_DEPTH:
        raise WeightsError(f"its modules are nested more than {_MAX_DEPTH} deep")
    for group in ("_parameters", "_buffers"):
        for name, value in module.state.get(group, {}).items():
            if isinstance(value, _Tensor):
                yield f"{prefix}{name}", value.array
    for name, child in module.state.get("_modules", {}).items():
        if isinstance(child, _Module):
            yield from _walk(child, f"{prefix}{name}.", depth + 1)
