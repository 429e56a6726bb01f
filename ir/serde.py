"""ONNX bytes to `Graph` and back. The bytes are untrusted; nothing is ever executed or evaluated.

`load` accepts one narrow form of ONNX: opset 23 to 28 of the default domain, no functions,
subgraphs, external data, sparse, string, sequence or optional types, every value typed with a
static shape (the front ends put the types there; `ir.check` infers them again and compares). Which
graph inputs are parameters, which values update them, and where gradients stop, is written in the
model's metadata under `PARAMETERS_KEY`, `UPDATES_KEY` and `STOPPED_KEY`, so the bytes say it all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from homespun.errors import Code, HomespunError
from ir import limits
from ir.graph import Attribute, Graph, Node, TensorType
from ir.operators import OPSETS
from ir.structure import DEFAULT_DOMAINS, check_structure, node_title
from ir.tensor_proto import (
    DTYPES,
    ELEMENT_TYPES,
    Array,
    array_type,
    checked_dtype,
    checked_shape,
    decode_tensor,
    encode_tensor,
)
from ir.wire_bounds import check_bounds

PARAMETERS_KEY = "homespun.parameters"
"""Key in the model's metadata: a JSON list of the graph inputs that are parameters, in order."""
UPDATES_KEY = "homespun.updates"
"""Key in the model's metadata: a JSON object, parameter -> the value that replaces it after each
training microbatch. Absent where there is none."""
STOPPED_KEY = "homespun.stopped"
"""Key in the model's metadata: a JSON list of node results through which no gradient passes back.
Absent where there is none."""
IR_VERSION = 11
"""Version of the ONNX file format that belongs to opset 23."""

_KINDS = onnx.AttributeProto


def load(data: bytes, *, parameters: Sequence[str] | None = None) -> Graph:
    """Read a graph from untrusted bytes.

    Args:
        data: a serialised ONNX `ModelProto`, at most `limits.GRAPH_BYTES`.
        parameters: graph inputs that are parameters; None: as the file's metadata says.

    Returns:
        The graph: static single assignment, topologically sorted, every value typed. Operators
        and shapes are not checked here: `ir.check` does that.

    Raises:
        HomespunError: INVALID_GRAPH, UNSUPPORTED_OP or LIMIT_EXCEEDED, naming the node or value.
    """
    check_bounds(data)
    try:
        model = onnx.ModelProto.FromString(data)
        _check_model(model)
        listed = _listed_names(model, PARAMETERS_KEY) if parameters is None else tuple(parameters)
        opset = model.opset_import[0].version
        return _Reader(model.graph, opset).read(
            listed, _listed_updates(model), _listed_names(model, STOPPED_KEY))
    except (DecodeError, UnicodeError) as error:
        raise _invalid(f"The graph is not an ONNX file: {error}.") from error


def dump(graph: Graph) -> bytes:
    """Serialise a graph. Equal graphs give equal bytes; `load` gives the graph back."""
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="homespun")
    model.opset_import.add(domain="", version=graph.opset)
    model.metadata_props.add(
        key=PARAMETERS_KEY, value=json.dumps(list(graph.parameters), ensure_ascii=False)
    )
    if graph.updates:
        model.metadata_props.add(
            key=UPDATES_KEY,
            value=json.dumps(dict(sorted(graph.updates.items())), ensure_ascii=False),
        )
    if graph.stopped:
        model.metadata_props.add(
            key=STOPPED_KEY, value=json.dumps(sorted(graph.stopped), ensure_ascii=False))
    proto = model.graph
    proto.name = "graph"
    proto.node.extend(encode_node(node) for node in graph.nodes)
    proto.initializer.extend(encode_tensor(array, name) for name, array in graph.constants.items())
    typed = graph.types
    proto.input.extend(_encode_type(name, typed) for name in (*graph.inputs, *graph.parameters))
    proto.output.extend(_encode_type(name, typed) for name in graph.outputs)
    shown = {*graph.outputs, ""}
    proto.value_info.extend(
        _encode_type(name, typed)
        for node in graph.nodes for name in node.outputs if name not in shown
    )
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _check_model(model: onnx.ModelProto) -> None:
    for wanted_empty in ("functions", "training_info", "configuration"):
        if len(getattr(model, wanted_empty)):
            raise _unsupported(f"The model has {wanted_empty}; only a plain graph is accepted.")
    if len(model.graph.sparse_initializer) or len(model.graph.quantization_annotation):
        raise _unsupported("The graph has sparse or quantised initializers.")
    versions = [(entry.domain, entry.version) for entry in model.opset_import]
    for domain, _ in versions:
        if domain not in DEFAULT_DOMAINS:
            raise _unsupported(f"The graph uses operators of the domain {domain[:80]!r}.")
    if len(versions) != 1 or versions[0][1] not in OPSETS:
        found = ", ".join(str(version) for _, version in versions[:4]) or "none"
        raise _invalid(
            f"The graph must use an opset from {OPSETS[0]} to {OPSETS[-1]}, has {found}. Import it "
            "again.")
    check_structure(model.graph)


def _listed_names(model: onnx.ModelProto, key: str) -> tuple[str, ...]:
    names = _metadata(model, key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid(f"The graph's metadata {key} is not one JSON list of names.")
    return tuple(names)


def _listed_updates(model: onnx.ModelProto) -> Mapping[str, str]:
    updates = _metadata(model, UPDATES_KEY, {})
    if not isinstance(updates, dict) or not all(
        isinstance(value, str) for value in updates.values()
    ):
        raise _invalid(f"The graph's metadata {UPDATES_KEY} is not one JSON object of names.")
    return updates


def _metadata(model: onnx.ModelProto, key: str, absent: object) -> object:
    """What the metadata says under a key; `None` where it is not one JSON value."""
    texts = [entry.value for entry in model.metadata_props if entry.key == key]
    if not texts:
        return absent
    try:
        return json.loads(texts[0]) if len(texts) == 1 else None
    except (ValueError, RecursionError):
        return None


class _Reader:
    """Reads one GraphProto; what is defined so far lives here."""

    def __init__(self, proto: onnx.GraphProto, opset: int) -> None:
        self.proto = proto
        self.opset = opset
        self.declared: dict[str, TensorType] = {}
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, Array] = {}
        self.constants_bytes = 0

    def read(
        self, parameters: tuple[str, ...], updates: Mapping[str, str], stopped: tuple[str, ...]
    ) -> Graph:
        for value in (*self.proto.value_info, *self.proto.output):
            self._declare(value)
        inputs = [self._input(value) for value in self.proto.input]
        self._check_parameters(parameters, inputs)
        for tensor in self.proto.initializer:
            where = f"Constant {tensor.name[:80]!r}"
            self._constant(tensor.name, self._decode(tensor, where), where)
        nodes: list[Node] = []
        for proto in self.proto.node:
            self._node(proto, nodes)
        self._check_updates(updates, parameters, inputs)
        self._check_stopped(stopped, inputs)
        chosen = frozenset(parameters)
        return Graph(
            opset=self.opset,
            nodes=tuple(nodes),
            inputs=tuple(name for name in inputs if name not in chosen),
            parameters=parameters,
            outputs=self._outputs(),
            constants=self.constants,
            types=self.types,
            updates=updates,
            stopped=frozenset(stopped),
        )

    def _declare(self, value: onnx.ValueInfoProto) -> None:
        name: str = value.name
        found = _decode_type(value, "Value")
        if self.declared.setdefault(name, found) is not found and self.declared[name] != found:
            raise _invalid(f"Value {name[:80]!r} is declared with two different types.")

    def _input(self, value: onnx.ValueInfoProto) -> str:
        name: str = value.name
        self._define(name, _decode_type(value, "Graph input"), f"Graph input {name[:80]!r}")
        return name

    def _define(self, name: str, type_: TensorType, where: str) -> None:
        """Enter a value; every value has one type."""
        if self.declared.get(name, type_) != type_:
            raise _invalid(f"{where} has type {type_}, declared as {self.declared[name]}.")
        self.types[name] = type_

    def _constant(self, name: str, array: Array, where: str) -> None:
        self._define(name, array_type(array), where)
        array.flags.writeable = False
        self.constants[name] = array

    def _decode(self, tensor: onnx.TensorProto, where: str) -> Array:
        array = decode_tensor(tensor, where, limits.CONSTANTS_BYTES - self.constants_bytes)
        self.constants_bytes += array.nbytes
        return array

    def _check_parameters(self, parameters: tuple[str, ...], inputs: list[str]) -> None:
        if len(parameters) > limits.PARAMETERS:
            raise _over("PARAMETERS", "The graph", len(parameters), limits.PARAMETERS, "parameters")
        if len(set(parameters)) != len(parameters):
            raise _invalid("A parameter is listed twice.")
        known = frozenset(inputs)
        for name in parameters:
            if name not in known:
                raise _invalid(f"The parameter {name[:80]!r} is not an input of the graph.")

    def _check_updates(
        self, updates: Mapping[str, str], parameters: tuple[str, ...], inputs: list[str]
    ) -> None:
        known, given = frozenset(parameters), frozenset(inputs) | self.constants.keys()
        for name, value in updates.items():
            if name not in known:
                raise _invalid(f"The update of {name[:80]!r} is for no parameter of the graph.")
            if value not in self.types or value in given:
                raise _invalid(
                    f"The update of {name[:80]!r} reads {value[:80]!r}, which no node makes.")
            if self.types[value] != self.types[name]:
                raise _invalid(
                    f"The update of {name[:80]!r} has type {self.types[value]}, the parameter "
                    f"{self.types[name]}.")

    def _check_stopped(self, stopped: tuple[str, ...], inputs: list[str]) -> None:
        given = frozenset(inputs) | self.constants.keys()
        for name in stopped:
            if name not in self.types or name in given:
                raise _invalid(f"The stopped gradient of {name[:80]!r} is of no node's result.")

    def _node(self, proto: onnx.NodeProto, nodes: list[Node]) -> None:
        index, op_type = len(nodes), proto.op_type
        name = proto.name or f"{op_type}_{index}"
        where = node_title(index, name, op_type)
        attributes = {
            entry.name: self._attribute(entry, where) for entry in proto.attribute
        } if proto.attribute else {}
        if op_type == "Constant":
            value = _constant_value(attributes, where)
            if len(proto.output) != 1:
                raise _invalid(f"{where} must have one output.")
            self._constant(proto.output[0], value, where)
            return
        for output in proto.output:
            if output:
                self._define(output, self._declared_type(output, where), where)
        nodes.append(Node(
            index, name, op_type, tuple(proto.input), tuple(proto.output), attributes
        ))

    def _declared_type(self, name: str, where: str) -> TensorType:
        if name not in self.declared:
            raise _invalid(f"{where}: its output {name[:80]!r} has no type; infer shapes first.")
        return self.declared[name]

    def _attribute(self, proto: onnx.AttributeProto, where: str) -> Attribute:
        if proto.type == _KINDS.TENSOR:
            return self._decode(proto.t, f"{where}, attribute {proto.name!r}")
        value: Attribute = _PLAIN_ATTRIBUTES[proto.type](proto)
        items = len(value) if isinstance(value, (tuple, str, bytes)) else 1
        if items > limits.ITEMS_PER_ATTRIBUTE:
            title = f"{where}, attribute {proto.name!r}"
            raise _over("ITEMS_PER_ATTRIBUTE", title, items, limits.ITEMS_PER_ATTRIBUTE, "items")
        return value

    def _outputs(self) -> tuple[str, ...]:
        outputs = tuple(value.name for value in self.proto.output)
        if not outputs:
            raise _invalid("The graph has no outputs; the first must be the loss.")
        if len(outputs) > limits.GRAPH_OUTPUTS:
            raise _over("GRAPH_OUTPUTS", "The graph", len(outputs), limits.GRAPH_OUTPUTS, "outputs")
        if len(set(outputs)) != len(outputs):
            raise _invalid("The graph lists an output twice.")
        for name in outputs:
            if self.declared[name] != self.types[name]:
                raise _invalid(f"The graph output {name!r} has type {self.types[name]}.")
        return outputs


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _texts(proto: onnx.AttributeProto) -> tuple[str, ...]:
    return tuple(item.decode() for item in proto.strings)


_PLAIN_ATTRIBUTES: Mapping[int, Any] = {
    _KINDS.FLOAT: lambda proto: float(proto.f),
    _KINDS.INT: lambda proto: int(proto.i),
    _KINDS.STRING: lambda proto: _text(proto.s),
    _KINDS.FLOATS: lambda proto: tuple(proto.floats),
    _KINDS.INTS: lambda proto: tuple(proto.ints),
    _KINDS.STRINGS: _texts,
}


def _constant_value(attributes: Mapping[str, Attribute], where: str) -> Array:
    """The array of a `Constant` node, which has exactly one attribute."""
    if len(attributes) == 1:
        (name, value), = attributes.items()
        if name == "value" and isinstance(value, np.ndarray):
            return value
        if name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
    raise _unsupported(f"{where} must hold one dense number tensor.")


def _decode_type(value: onnx.ValueInfoProto, kind: str) -> TensorType:
    """The declared type of a value; titles are made only when they are needed."""
    tensor = value.type.tensor_type
    extents = [axis.dim_value for axis in tensor.shape.dim]
    dtype = DTYPES.get(tensor.elem_type)
    if dtype is None or not extents or min(extents) <= 0:
        _check_declared(value, f"{kind} {value.name[:80]!r}")
    elif len(extents) <= limits.RANK and max(extents) <= limits.DIMENSION:
        return TensorType(dtype, tuple(extents))
    where = f"{kind} {value.name[:80]!r}"
    return TensorType(checked_dtype(tensor.elem_type, where), checked_shape(extents, where))


def _check_declared(value: onnx.ValueInfoProto, where: str) -> None:
    """Refuse what is no dense tensor of static shape. An extent that is not given reads as 0."""
    if value.type.WhichOneof("value") != "tensor_type":
        raise _unsupported(f"{where} is not a dense tensor.")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or any(
        axis.WhichOneof("value") != "dim_value" for axis in tensor.shape.dim
    ):
        raise _invalid(f"{where} has no static shape; export with fixed sizes.")


def _encode_type(name: str, types: Mapping[str, TensorType]) -> onnx.ValueInfoProto:
    value = onnx.ValueInfoProto(name=name)
    tensor = value.type.tensor_type
    tensor.elem_type = ELEMENT_TYPES[types[name].dtype]
    tensor.shape.SetInParent()  # A scalar has a shape without axes, which is not "no shape".
    for extent in types[name].shape:
        tensor.shape.dim.add(dim_value=extent)
    return value


def encode_node(node: Node) -> onnx.NodeProto:
    """A node as ONNX writes it, attributes in alphabetical order."""
    proto = onnx.NodeProto(
        name=node.name, op_type=node.op_type, input=node.inputs, output=node.outputs
    )
    proto.attribute.extend(
        _encode_attribute(name, node.attributes[name]) for name in sorted(node.attributes)
    )
    return proto


def _encode_attribute(name: str, value: Attribute) -> onnx.AttributeProto:
    match value:
        case bool() | int():
            return _KINDS(name=name, type=_KINDS.INT, i=int(value))
        case float():
            return _KINDS(name=name, type=_KINDS.FLOAT, f=value)
        case str():
            return _KINDS(name=name, type=_KINDS.STRING, s=value.encode())
        case bytes():
            return _KINDS(name=name, type=_KINDS.STRING, s=value)
        case tuple():
            return _encode_items(name, value)
        case _:
            return _KINDS(name=name, type=_KINDS.TENSOR, t=encode_tensor(value, ""))


def _encode_items(name: str, items: Iterable[object]) -> onnx.AttributeProto:
    """A list attribute; an empty list is written as integers."""
    values: list[Any] = list(items)
    if values and isinstance(values[0], str):
        encoded = [item.encode() for item in values]
        return _KINDS(name=name, type=_KINDS.STRINGS, strings=encoded)
    if values and isinstance(values[0], float):
        return _KINDS(name=name, type=_KINDS.FLOATS, floats=values)
    return _KINDS(name=name, type=_KINDS.INTS, ints=values)


def _over(limit: str, where: str, had: int, allowed: int, unit: str) -> HomespunError:
    return HomespunError(
        Code.LIMIT_EXCEEDED, f"{where} has {had} {unit}; at most {allowed} are accepted.",
        limit=limit, had=had, allowed=allowed,
    )


def _invalid(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_GRAPH, message)


def _unsupported(message: str) -> HomespunError:
    return HomespunError(Code.UNSUPPORTED_OP, message)
