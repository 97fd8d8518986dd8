"""Files of `torch.save`, read without torch and without executing anything in them.

A pickle is a program for a stack machine that may call whatever it names. This reader is our own because no other is
safe here: torch's `weights_only` needs torch, and a restricted `pickle.Unpickler` still hashes tuples nested a million
deep, allocates as much memory as the file asks for, and sets attributes of whatever it is given. The machine below
builds numbers, names, tuples, lists and dicts, calls nothing but the functions of `_KNOWN`, and does an amount of work
that is linear in the length of the pickle.
"""

from __future__ import annotations

import dataclasses
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from rpfnet_jax.weights.store import WeightsError, listing, printable

# Two hundred times the pickle of the released file.
_MAX_PICKLE_BYTES = 4 * 1024 * 1024
# Of all modules together; the released network has 162.
_MAX_ENTRIES = 10_000
_MAX_NAME = 1000
_MAX_DIMENSIONS = 8
_MAX_ARGUMENTS = 8
_MAX_NUMBER = 2**62

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MARK = object()
_MODULE_CLASS = object()


def read_torch_archive(path: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Reads a pickled module or a state dict (bare, or beside an optimizer's in one dict) that torch >= 1.6 saved.

    Returns:
        The tensors (torch name -> array, float32 or int64), and the integers that a pickled module keeps besides its
        tensors, such as `num_iterations`; none of these for a state dict.

    Raises:
        WeightsError: the file is truncated, compressed or otherwise not a zip of torch; its pickle uses an instruction,
            a function or a class that is not allowed (the message names it); or it holds no tensors, or several sets.
    """
    try:
        with zipfile.ZipFile(path) as zipped:
            archive = _Archive(zipped, path.stat().st_size)
            return _checkpoint(_Machine(archive.load_storage).run(archive.pickle))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, EOFError, OSError, struct.error) as error:
        raise WeightsError(f"{path} is a damaged or truncated torch file: {printable(error)}") from error
    # zipfile and pickletools raise these for malformed files.
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise WeightsError(f"{path}: its pickle is malformed: {printable(error)}") from error


# Stand-ins for torch's objects. None is a tuple, list or dict, so that a pickle can't forge one.


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage:
    values: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Tensor:
    array: np.ndarray


@dataclasses.dataclass(eq=False)
class _Module:
    """An `nn.Module` of any class; its state is None until the pickle sets it."""

    state: dict | None = None

    def part(self, name: str) -> dict:
        """Returns `_parameters`, `_buffers` or `_modules`; empty where there is none."""
        part = (self.state or {}).get(name)
        return part if isinstance(part, dict) else {}


class _Archive:
    """The zip of a torch file, checked before anything is read from it."""

    def __init__(self, zipped: zipfile.ZipFile, file_size: int):
        infos = zipped.infolist()
        packed = [info.filename for info in infos if info.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise WeightsError(f"{printable(packed[0])} is compressed, which torch never does; it may be a zip bomb")
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
        self._zipped, self.pickle = zipped, zipped.read(pickles[0])
        self._members = {i.filename.removeprefix(folder): i for i in infos if i.filename.startswith(folder)}
        self._storages: dict[str, _Storage] = {}
        if "byteorder" in self._members and zipped.read(self._members["byteorder"]) != b"little":
            raise WeightsError("was saved on a big-endian machine; save it again on a little-endian one")

    def load_storage(self, reference: Any) -> _Storage:
        """Returns the storage of a persistent id ("storage", type, key, device, count); each is read once."""
        tag, dtype, key, _, count = reference if isinstance(reference, tuple) and len(reference) == 5 else [None] * 5
        if not (isinstance(tag, str) and tag == "storage"):
            raise WeightsError("its pickle refers to something outside that is no storage")
        if not (isinstance(dtype, np.dtype) and type(key) is str and type(count) is int):
            raise WeightsError("its pickle refers to a storage of unknown type, name or length")
        name = f"data/{printable(key)}"
        if key not in self._storages:
            member = self._members.get(f"data/{key}")
            if member is None:
                raise WeightsError(f"storage {name} is missing from the zip")
            raw = self._zipped.read(member)
            if len(raw) % dtype.itemsize:
                raise WeightsError(f"storage {name} has {len(raw)} bytes, no multiple of {dtype.itemsize}")
            self._storages[key] = _Storage(np.frombuffer(raw, dtype))
        values = self._storages[key].values
        if values.dtype != dtype or values.size != count:
            raise WeightsError(f"storage {name} holds {values.size} {values.dtype} values, not {count} {dtype}")
        return self._storages[key]


def _malformed(reason: str) -> WeightsError:
    return WeightsError(f"its pickle is malformed: {reason}")


class _Machine:
    """A stack machine for the pickle instructions that torch writes."""

    def __init__(self, load_storage: Callable[[Any], _Storage]):
        self.load_storage = load_storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """Runs a pickle; raises WeightsError for an instruction, name or operation that torch's files do not have."""
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.pop()
            self.step(opcode.name, argument, position)
        raise _malformed("it has no end")

    def step(self, name: str, argument: Any, position: int | None) -> None:
        push, pop = self.stack.append, self.pop
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                push(_CONSTANTS[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                if type(argument) is int and abs(argument) > _MAX_NUMBER:
                    raise WeightsError("its pickle has a number beyond 64 bits")
                push(argument)
            case "MARK":
                push(_MARK)
            case "POP":
                pop()
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple([pop() for _ in range(int(name[-1]))][::-1]))
            case "TUPLE":
                push(tuple(self.pop_to_mark()))
            case "EMPTY_LIST":
                push([])
            case "APPEND" | "APPENDS":
                values = [pop()] if name == "APPEND" else self.pop_to_mark()
                self.top(list).extend(values)
            case "EMPTY_DICT":
                push({})
            case "SETITEM" | "SETITEMS":
                items = [pop(), pop()][::-1] if name == "SETITEM" else self.pop_to_mark()
                _set_items(self.top(dict), items)
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.top(object)
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise _malformed("it refers to a value that it never stored")
                push(self.memo[argument])
            case "GLOBAL":
                module, _, attribute = argument.partition(" ")
                push(_find(module, attribute))
            case "STACK_GLOBAL":
                attribute, module = pop(), pop()
                push(_find(module, attribute))
            case "REDUCE":
                arguments, function = pop(), pop()
                if not (isinstance(function, FunctionType) and isinstance(arguments, tuple)):
                    raise _malformed("it calls what is no function")
                if len(arguments) > _MAX_ARGUMENTS:
                    raise _malformed("it calls a function with too many arguments")
                push(function(*arguments))
            case "NEWOBJ":
                arguments, kind = pop(), pop()
                if kind is not _MODULE_CLASS or arguments != ():
                    raise _malformed("it makes an object that is no module")
                push(_Module())
            case "BUILD":
                state = pop()
                _set_state(self.top(object), state)
            case "BINPERSID":
                push(self.load_storage(pop()))
            case _:
                raise WeightsError(f"refused: its pickle uses {name} (byte {position}), which torch never writes")

    def pop(self) -> Any:
        self.top(object)
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _malformed("it takes from an empty stack")
        if not isinstance(self.stack[-1], kind):
            raise _malformed(f"it fills something that is no {kind.__name__}")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        values = []
        while self.stack and self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        if not self.stack:
            raise _malformed("a mark is missing")
        self.stack.pop()
        return values[::-1]


def _set_items(target: dict, items: list[Any]) -> None:
    if len(items) % 2:
        raise _malformed("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Optimizers number their states. Tuples could take for ever to hash; large numbers could all collide.
        if not (isinstance(key, str) or (type(key) is int and abs(key) < 2**31)):
            raise WeightsError("its pickle has a dict with keys that are neither names nor small numbers")
        target[key] = value


def _set_state(target: Any, state: Any) -> None:
    # torch sets an attribute `_metadata` of its OrderedDicts, which nothing here needs.
    if isinstance(target, dict):
        return
    if not isinstance(target, _Module) or target.state is not None:
        raise _malformed("it gives a state to what takes none")
    if not isinstance(state, dict):
        raise WeightsError("its pickle has a module with a state that is no dict of names")
    target.state = state


def _find(module: Any, name: Any) -> Any:
    """Returns what stands for a name of torch's files; every other name is refused."""
    if not (isinstance(module, str) and isinstance(name, str)):
        raise _malformed("a name that is no text")
    if (module, name) in _KNOWN:
        return _KNOWN[module, name]
    full = printable(f"{module}.{name}")
    if module.startswith("torch") and name.endswith("Storage"):
        raise WeightsError(f"has tensors of {full}; only float32 is read: save it after model.float()")
    raise WeightsError(
        f"refused: its pickle refers to {full}, which is none of the known tensor and module names. If you trust the "
        "file, load it in torch and save model.state_dict()"
    )


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or not (isinstance(size, tuple) and isinstance(stride, tuple)):
        raise WeightsError("its pickle builds a tensor from something that is no storage")
    numbers = (offset, *size[:_MAX_DIMENSIONS], *stride[:_MAX_DIMENSIONS])
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS or not all(type(number) is int for number in numbers):
        raise WeightsError("a tensor has an invalid size or stride")
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
# The functions check their arguments themselves; the other values may only be named.
_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, name): _MODULE_CLASS for module, names in _MODULES.items() for name in names.split()},
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("collections", "OrderedDict"): _make_dict,
    # Modules keep a set with the names of buffers that are not saved, which nothing here needs.
    **{(module, "set"): (lambda *_: None) for module in ("builtins", "__builtin__")},
}


def _checkpoint(root: Any) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    candidates = {"": root}
    if isinstance(root, dict) and not _has_tensors(root):
        # A training script's own dict: {"model": ..., "optimizer": ..., "epoch": ...}.
        candidates = {str(k): v for k, v in root.items() if isinstance(v, _Module) or _has_tensors(v)}
    if len(candidates) != 1:
        found = listing(list(candidates)) or "none"
        raise WeightsError(f"needs one module or state dict; sets of tensors found: {found}. Save model.state_dict()")
    (network,) = candidates.values()
    named = dict(_walk(network)) if isinstance(network, _Module) else network if isinstance(network, dict) else {}
    tensors = {name: value.array for name, value in named.items() if isinstance(value, _Tensor)}
    if not all(isinstance(name, str) for name in tensors):
        raise WeightsError("has tensors whose names are no text")
    if not tensors:
        raise WeightsError("holds no tensors")
    # DataParallel keeps the network in its only child.
    if isinstance(network, _Module) and network.part("_modules").keys() == {"module"}:
        network = network.part("_modules")["module"]
    attributes = (network.state or {}) if isinstance(network, _Module) else {}
    return tensors, {str(name): value for name, value in attributes.items() if type(value) is int}


def _has_tensors(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(item, _Tensor) for item in value.values())


def _walk(root: _Module) -> Iterator[tuple[str, Any]]:
    """Yields parameters and buffers of a module and of those inside it, by torch's names."""
    waiting, left = [("", root)], _MAX_ENTRIES
    while waiting:
        prefix, module = waiting.pop()
        for group in ("_parameters", "_buffers", "_modules"):
            for key, value in module.part(group).items():
                name, left = f"{prefix}{key}", left - 1
                # A module that contains itself, or modules that contain each other many times over, would never end.
                if left < 0 or len(name) > _MAX_NAME:
                    raise WeightsError("has too many modules inside each other, or too long names")
                if isinstance(value, _Module):
                    waiting.append((f"{name}.", value))
                else:
                    yield name, value
