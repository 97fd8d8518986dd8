"""A machine for the few pickle instructions that torch's files need; nothing in a pickle can make it run anything else.

A pickle is a program for a stack machine that may call what it names. The interpreter of the standard library would
call it, hash what is nested a million deep, and set attributes of whatever it is given. This one builds numbers, names,
tuples, lists and dicts, calls only what its caller hands it as a `Function`, and does an amount of work that is linear
in the length of the pickle.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from rpfnet_jax.weights.errors import WeightsError, printable

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
