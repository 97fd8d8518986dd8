"""A builder of ONNX graphs whose tensors compute like arrays: `y * gate + x` adds a Mul and an Add node."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Opset 18 is the oldest with all operators used here in their present form, and the readers of opset 18 know IR 8.
OPSET, _IR_VERSION = 18, 8

# Type of an input or output -> ONNX's number for it.
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value of a graph. In arithmetic, floats and arrays become float32 constants, and integers int64."""

    graph: Graph
    name: str

    def __add__(self, other: Operand) -> Tensor:
        return self.graph("Add", self, other)

    def __sub__(self, other: Operand) -> Tensor:
        return self.graph("Sub", self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return self.graph("Sub", other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return self.graph("Mul", self, other)

    def __truediv__(self, other: Operand) -> Tensor:
        return self.graph("Div", self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return self.graph("Div", other, self)

    def __mod__(self, other: Operand) -> Tensor:
        return self.graph("Mod", self, other)

    def __matmul__(self, other: Operand) -> Tensor:
        return self.graph("MatMul", self, other)

    def __rmatmul__(self, other: np.ndarray) -> Tensor:
        return self.graph("MatMul", other, self)

    # NumPy would otherwise take `array @ tensor` apart, element by element.
    __array_ufunc__ = None
    # Tensors that compute the same are one in arithmetic, whichever side they stand on.
    __radd__, __rmul__ = __add__, __mul__

    def reshape(self, *shape: int) -> Tensor:
        """Reshapes; 0 keeps the size of that axis, and -1 takes what is left."""
        return self.graph("Reshape", self, shape)

    def transpose(self, *axes: int) -> Tensor:
        """Orders the axes anew."""
        return self.graph("Transpose", self, perm=axes)

    def unsqueeze(self, *axes: int) -> Tensor:
        """Inserts axes of size 1."""
        return self.graph("Unsqueeze", self, axes)

    def halves(self, axis: int) -> tuple[Tensor, Tensor]:
        """Splits an axis of even size in the middle."""
        first, second = self.graph.split(self, axis, num_outputs=2)
        return first, second

    def size(self, axis: int) -> Tensor:
        """Returns the size of an axis, an int64 scalar."""
        return self.graph("Gather", self.graph("Shape", self), axis)

    def cast(self, dtype: str) -> Tensor:
        """Converts to a dtype."""
        return self.graph("Cast", self, to=_TYPES[dtype])

    def clip(self, low: float, high: float) -> Tensor:
        """Limits the values."""
        return self.graph("Clip", self, low, high)

    def mean(self, *axes: int) -> Tensor:
        """Averages over axes, which are kept."""
        return self.graph("ReduceMean", self, axes, keepdims=1)


Operand = Tensor | float | int | Sequence[int] | np.ndarray


class Graph:
    """An ONNX graph under construction. Calling it adds a node; equal constants are stored once."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[Any, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def __call__(self, operator: str, *inputs: Operand, **attributes: Any) -> Tensor:
        """Adds a node with one output."""
        return self._add(operator, inputs, attributes, 1)[0]

    def split(self, tensor: Tensor, axis: int, sizes: Sequence[int] = (), **attributes: Any) -> tuple[Tensor, ...]:
        """Splits a tensor into parts of these sizes, or into `num_outputs` equal ones."""
        count = attributes.get("num_outputs", len(sizes))
        return self._add("Split", [tensor, *([sizes] if sizes else [])], {"axis": axis, **attributes}, count)

    def _add(self, operator: str, inputs: Sequence[Operand], attributes: dict, count: int) -> tuple[Tensor, ...]:
        stem = f"{operator.lower()}_{len(self._nodes)}"
        names = [stem] if count == 1 else [f"{stem}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(operator, [self._name(x) for x in inputs], names, name=stem, **attributes))
        return tuple(Tensor(self, name) for name in names)

    def _name(self, value: Operand) -> str:
        if isinstance(value, Tensor):
            return value.name
        array = np.asarray(value)
        array = np.ascontiguousarray(array, np.int64 if array.dtype.kind == "i" else np.float32).reshape(array.shape)
        key = array.shape, array.dtype.str, array.tobytes()
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return self._constants[key].name

    def concat(self, *tensors: Tensor, axis: int) -> Tensor:
        """Joins tensors along an axis."""
        return self("Concat", *tensors, axis=axis)

    def range(self, start: Operand, stop: Operand) -> Tensor:
        """Counts from `start` to `stop`, int64."""
        return self("Range", start, stop, 1)

    def input(self, name: str, dtype: str, shape: Sequence[int | str | None]) -> Tensor:
        """Declares an input; text or None in the shape is a size that is free."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return Tensor(self, name)

    def output(self, tensor: Tensor, name: str, dtype: str, shape: Sequence[int | str | None]) -> None:
        """Declares an output."""
        self._nodes.append(helper.make_node("Identity", [tensor.name], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))

    def model(self, metadata: Mapping[str, str] = {}) -> onnx.ModelProto:
        """Returns the checked model.

        Raises:
            onnx.checker.ValidationError: the graph is not valid.
        """
        graph = helper.make_graph(self._nodes, "rpfnet", self._inputs, self._outputs, list(self._constants.values()))
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="rpfnet_jax")
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model
