"""A machine for the few pickle instructions that torch's files need; nothing in a pickle can make it run anything else.

A pickle is a program for a stack machine that may call what it names. The interpreter of the standard library would
call it, hash what is nested a million deep, and set attributes of whatever it is given. This one builds numbers, names,
tuples, lists and dicts, calls only what its caller hands it as a `Function`, and does an amount of work that is linear
in the length of the pickle.
"""

from __future__ import annotations

import dataclasses
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rpfnet_jax.weights.store import WeightsError, listing, printable

_MOST_ARGUMENTS = 8
_LARGEST = 2**62
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = frozenset(["BININT", "BININT1", "BININT2", "LONG1"])
_VALUES = frozenset(["BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"])
_NOTHING = frozenset(["PROTO", "FRAME"])
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclasses.dataclass(frozen=True, eq=False)
class Function:
    """Stands for a function that a pickle may call: `call` gets the arguments and must check them."""

    call: Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Named:
    """Stands for something that a pickle may only name; `value` is for whoever gets it as an argument."""

    value: Any


@dataclasses.dataclass(eq=False)
class Module:
    """An `nn.Module` of any class: only its state, None until the pickle gives it."""

    state: dict | None = None


MODULE_CLASS = Named("an nn.Module")


def interpret(data: bytes, known: Mapping[tuple[str, str], Any], load_storage: Callable[[Any], Any]) -> Any:
    """Runs a pickle.

    Args:
        data: the pickle.
        known: (module, name) -> `Function` or `Named`; every other name is refused.
        load_storage: turns a persistent id into what it stands for.

    Raises:
        WeightsError: an instruction, a name or an operation that torch's files do not have.
    """
    return _Machine(known, load_storage).run(data)


class _Machine:
    def __init__(self, known: Mapping[tuple[str, str], Any], load_storage: Callable[[Any], Any]):
        self.known, self.load_storage = known, load_storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name not in _NOTHING:
                self.step(opcode.name, argument, position)
        raise WeightsError("its pickle is malformed: it has no end")

    def step(self, name: str, argument: Any, position: int | None) -> None:
        if name in _CONSTANTS:
            self.push(_CONSTANTS[name])
        elif name in _NUMBERS:
            if abs(argument) > _LARGEST:
                raise WeightsError("its pickle has a number beyond 64 bits")
            self.push(argument)
        elif name in _VALUES:
            self.push(argument)
        elif name in _TUPLES:
            self.push(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif (method := getattr(self, f"do_{name.lower()}", None)) is not None:
            method(argument)
        else:
            raise WeightsError(f"refused: its pickle uses {name} (byte {position}), which torch never writes")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise WeightsError("its pickle is malformed: it takes from an empty stack")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise WeightsError(f"its pickle is malformed: it fills something that is no {kind.__name__}")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        values = []
        while self.stack and self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        if not self.stack:
            raise WeightsError("its pickle is malformed: a mark is missing")
        self.stack.pop()
        return values[::-1]

    def do_mark(self, _: Any) -> None:
        self.push(_MARK)

    def do_pop(self, _: Any) -> None:
        self.pop()

    def do_tuple(self, _: Any) -> None:
        self.push(tuple(self.pop_mark()))

    def do_empty_list(self, _: Any) -> None:
        self.push([])

    def do_append(self, _: Any) -> None:
        value = self.pop()
        self.top(list).append(value)

    def do_appends(self, _: Any) -> None:
        values = self.pop_mark()
        self.top(list).extend(values)

    def do_empty_dict(self, _: Any) -> None:
        self.push({})

    def do_setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def do_setitems(self, _: Any) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise WeightsError("its pickle is malformed: a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Optimizers number their states. Tuples could take for ever to hash, large numbers to find their place.
            if not (isinstance(key, str) or (type(key) is int and abs(key) < 2**31)):
                raise WeightsError("its pickle has a dict with keys that are neither names nor small numbers")
            target[key] = value

    def do_binput(self, index: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise WeightsError("its pickle is malformed: it remembers nothing")
        self.memo[index] = self.stack[-1]

    do_long_binput = do_binput

    def do_memoize(self, _: Any) -> None:
        self.do_binput(len(self.memo))

    def do_binget(self, index: int) -> None:
        if index not in self.memo:
            raise WeightsError("its pickle is malformed: it refers to what it never remembered")
        self.push(self.memo[index])

    do_long_binget = do_binget

    def do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push(self.find(module, name))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise WeightsError("its pickle is malformed: a name that is no text")
        self.push(self.find(module, name))

    def find(self, module: str, name: str) -> Any:
        if (module, name) in self.known:
            return self.known[module, name]
        full = printable(f"{module}.{name}")
        if module.startswith("torch") and name.endswith("Storage"):
            raise WeightsError(f"has tensors of {full}; only float32 is read: save it after model.float()")
        raise WeightsError(
            f"refused: its pickle refers to {full}, which is none of the known tensor and module names. If you trust "
            "the file, load it in torch and save model.state_dict()"
        )

    def do_reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Function) or not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
            raise WeightsError("its pickle is malformed: it calls what is no function, or with too many arguments")
        self.push(function.call(*arguments))

    def do_newobj(self, _: Any) -> None:
        arguments, kind = self.pop(), self.pop()
        if kind is not MODULE_CLASS or arguments != ():
            raise WeightsError("its pickle is malformed: it makes an object that is no module")
        self.push(Module())

    def do_build(self, _: Any) -> None:
        state = self.pop()
        target = self.top(object)
        if isinstance(target, dict):
            # torch hangs `_metadata` on its OrderedDicts, which nobody needs.
            return
        if not isinstance(target, Module) or target.state is not None:
            raise WeightsError("its pickle is malformed: it gives a state to what takes none")
        if not isinstance(state, dict):
            raise WeightsError("its pickle has a module with a state that is no dict of names")
        target.state = state

    def do_binpersid(self, _: Any) -> None:
        self.push(self.load_storage(self.pop()))


# Two hundred times the pickle of the released file.
_MAX_PICKLE_BYTES = 4 * 1024 * 1024
_MAX_MODULES = 10_000
_MAX_DIMENSIONS = 8


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
            storages = _Storages(archive, members)
            return _checkpoint(interpret(archive.read(members["data.pkl"]), _KNOWN, storages.load))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, EOFError, OSError, struct.error) as error:
        raise WeightsError(f"{path} is a damaged or truncated torch file: {printable(error)}") from error
    # Whatever else a malformed file leads zipfile and pickletools to; none of it is a bug to be traced.
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise WeightsError(f"{path}: its pickle is malformed: {printable(error)}") from error


def _members(archive: zipfile.ZipFile, file_size: int) -> dict[str, zipfile.ZipInfo]:
    """The zip's members by name, without the folder that torch puts them in."""
    infos = archive.infolist()
    packed = [info.filename for info in infos if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise WeightsError(
            f"{printable(packed[0])} is compressed, which torch never does; not unpacked, it may be a zip bomb"
        )
    if any(info.flag_bits & 1 for info in infos):
        raise WeightsError("is encrypted, which torch never does")
    if len({info.filename for info in infos}) < len(infos):
        raise WeightsError("has two members of one name")
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


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage:
    values: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Tensor:
    array: np.ndarray


class _Storages:
    """The raw bytes of a zip as arrays, each read once."""

    def __init__(self, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]):
        self._archive, self._members = archive, members
        self._loaded: dict[str, _Storage] = {}

    def load(self, pid: Any) -> _Storage:
        """What a persistent id ("storage", type, key, device, count) stands for."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and isinstance(pid[0], str) and pid[0] == "storage"):
            raise WeightsError("its pickle refers to something outside that is no storage")
        _, kind, key, _, count = pid
        if not (
            isinstance(kind, Named) and isinstance(kind.value, np.dtype) and type(key) is str and type(count) is int
        ):
            raise WeightsError("its pickle refers to a storage of unknown type, name or length")
        if key not in self._loaded:
            self._loaded[key] = _Storage(self._read(printable(key), kind.value))
        values = self._loaded[key].values
        if values.dtype != kind.value or values.size != count:
            raise WeightsError(
                f"storage data/{printable(key)} holds {values.size} {values.dtype} values, not {count} {kind.value}"
            )
        return self._loaded[key]

    def _read(self, key: str, dtype: np.dtype) -> np.ndarray:
        member = self._members.get(f"data/{key}")
        if member is None:
            raise WeightsError(f"storage data/{key} is missing from the zip")
        raw = self._archive.read(member)
        if len(raw) % dtype.itemsize:
            raise WeightsError(f"storage data/{key} has {len(raw)} bytes, no multiple of {dtype.itemsize}")
        return np.frombuffer(raw, dtype)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or not (isinstance(size, tuple) and isinstance(stride, tuple)):
        raise WeightsError("its pickle builds a tensor from something that is no storage")
    numbers = (offset, *size[:_MAX_DIMENSIONS], *stride[:_MAX_DIMENSIONS])
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS or not all(type(number) is int for number in numbers):
        raise WeightsError("a tensor has a size or stride that is none")
    if not all(0 <= number < 2**40 for number in numbers):
        raise WeightsError(f"a tensor has the impossible size {size} or stride {stride}")
    values = storage.values
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # The second condition keeps a stride of 0 from turning few bytes into many.
    if math.prod(size) and (last >= values.size or math.prod(size) > values.size):
        raise WeightsError(f"a tensor of size {size} does not fit its storage of {values.size} values")
    strides = [step * values.itemsize for step in stride]
    # A view: copies would let a small file ask for any amount of memory.
    return _Tensor(np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False))


def _make_dict(*arguments: Any) -> dict:
    if arguments:
        raise WeightsError("its pickle makes a dict from another one, which torch never does")
    return {}


_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
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
# Of a set modules keep names of buffers that are not saved.
_SET = Function(lambda *_: None)
_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, name): MODULE_CLASS for module, names in _MODULES.items() for name in names.split()},
    **{("torch", name): Named(dtype) for name, dtype in _DTYPES.items()},
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(lambda data, *_: data),
    ("collections", "OrderedDict"): Function(_make_dict),
    ("__builtin__", "set"): _SET,
    ("builtins", "set"): _SET,
}


def _checkpoint(root: Any) -> TorchCheckpoint:
    candidates = {"": root}
    if isinstance(root, dict) and not any(isinstance(value, _Tensor) for value in root.values()):
        # A training script's own dict: {"model": ..., "optimizer": ..., "epoch": ...}.
        candidates = {str(key): value for key, value in root.items() if _has_tensors(value)}
    if len(candidates) != 1:
        found = listing(list(candidates)) or "none"
        raise WeightsError(f"needs one module or state dict; sets of tensors found: {found}. Save model.state_dict()")
    (network,) = candidates.values()
    tensors = _tensors(network)
    if not tensors:
        raise WeightsError("holds no tensors")
    return TorchCheckpoint(tensors, _attributes(network))


def _has_tensors(value: Any) -> bool:
    if isinstance(value, Module):
        return True
    return isinstance(value, dict) and any(isinstance(item, _Tensor) for item in value.values())


def _tensors(network: Any) -> dict[str, np.ndarray]:
    named = dict(_walk(network)) if isinstance(network, Module) else network if isinstance(network, dict) else {}
    tensors = {name: value.array for name, value in named.items() if isinstance(value, _Tensor)}
    if not all(isinstance(name, str) for name in tensors):
        raise WeightsError("has tensors whose names are no text")
    return tensors


def _walk(root: Module) -> Iterator[tuple[str, Any]]:
    """Parameters and buffers of a module and of those inside it, by torch's names."""
    waiting = [("", root)]
    # Modules that contain themselves, or each other many times over, would never end.
    for _ in range(_MAX_MODULES):
        if not waiting:
            return
        prefix, module = waiting.pop()
        for group in ("_parameters", "_buffers"):
            yield from ((f"{prefix}{name}", value) for name, value in _part(module, group).items())
        children = _part(module, "_modules").items()
        waiting += [(f"{prefix}{name}.", child) for name, child in children if isinstance(child, Module)]
    raise WeightsError(f"has more than {_MAX_MODULES} modules inside each other")


def _part(module: Module, group: str) -> dict:
    part = (module.state or {}).get(group, {})
    return part if isinstance(part, dict) else {}


def _attributes(network: Any) -> dict[str, int]:
    if not isinstance(network, Module):
        return {}
    inside = _part(network, "_modules")
    if inside.keys() == {"module"}:
        # DataParallel around the network.
        return _attributes(inside["module"]) if inside["module"] is not network else {}
    return {str(name): value for name, value in (network.state or {}).items() if type(value) is int}
