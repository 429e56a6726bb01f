"""Flatten a model: inline functions, decide conditions, unroll loops, know what can be known.

One walk over the nodes in order, on the submitter's machine. Shapes are static by then, so every
value gets its type, and whatever follows from shapes and constants gets its elements, at once:
a condition or a trip count is looked at only after everything before it was worked out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx.shape_inference import InferenceError, infer_node_outputs

from homespun.errors import Code, HomespunError
from ir.frontends import classical, control_flow, functions, trees
from ir.frontends.canonical import STOP
from ir.frontends.flat_value import OMITTED, FlatValue, Scope
from ir.frontends.known_values import compute
from ir.frontends.refusals import refuse, title
from ir.frontends.schemas import schema_of
from ir.limits import IMPORT_DEPTH, UNROLLED_NODES
from ir.operators import OPERATORS, RANDOM_OPERATORS
from ir.tensor_proto import DTYPES, ELEMENT_TYPES, Array, array_type, decode_tensor, encode_tensor

DEFAULT_DOMAINS = ("", "ai.onnx")


def flatten(model: onnx.ModelProto, known: Mapping[str, Array] | None = None) -> onnx.ModelProto:
    """The same model without functions, subgraphs and operators that the closed list can express.

    Args:
        model: nodes in topological order, inputs of static shape, any opset. It is not changed.
        known: graph input -> its elements: it becomes a constant.

    Returns:
        A model at the same opset; its values are typed, unless a shape depends on data.

    Raises:
        HomespunError: UNSUPPORTED_OP for a condition or trip count that depends on data and for
            an operator of another domain; INVALID_GRAPH where node and inputs contradict each
            other; LIMIT_EXCEEDED where more than `limits.UNROLLED_NODES` nodes would come out.
            Each names the node.

    Cost: linear in the nodes that come out, about 0.3 ms each.
    """
    return Flattener(model, dict(known or {})).run()


class Flattener:
    """The walk. What came out so far lives here."""

    def __init__(self, model: onnx.ModelProto, known: dict[str, Array]) -> None:
        self.model = model
        self.known = known
        self.opset = opset_of(model)
        self.functions = functions.local_functions(model)
        self.nodes: list[onnx.NodeProto] = []
        self.visited = 0
        self._types: dict[str, onnx.TypeProto] = {}
        self._constants: dict[str, Array] = {}
        self._outputs = {value.name for value in model.graph.output}
        self._value_names = _Names({"", *self._outputs})
        self._node_names = _Names(set())

    def run(self) -> onnx.ModelProto:
        """Flatten the model's graph."""
        graph = self.model.graph
        scope = Scope("", self.opset)
        self._value_names.taken.update(value.name for value in graph.input)
        for value in graph.input:
            array = self.known.get(value.name)
            scope.values[value.name] = (
                FlatValue(value.name, value.type) if array is None else self.constant(array))
        self.enter(graph, scope)
        flat = onnx.ModelProto(ir_version=self.model.ir_version)
        flat.opset_import.add(domain="", version=self.opset)
        flat.graph.name = graph.name or "graph"
        flat.graph.input.extend(v for v in graph.input if v.name not in self.known)
        for output in graph.output:
            self._output(output.name, scope, flat.graph)
        flat.graph.node.extend(self.nodes)
        self._declare(flat.graph)
        return flat

    def enter(self, graph: onnx.GraphProto, scope: Scope) -> None:
        """Walk a graph whose inputs are in `scope` already."""
        if scope.depth > IMPORT_DEPTH:
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"The nodes at {scope.prefix[-80:]!r} are in more than {IMPORT_DEPTH} functions "
                "and subgraphs.", limit="IMPORT_DEPTH", allowed=IMPORT_DEPTH)
        for tensor in graph.initializer:
            where = f"Initializer {scope.prefix}{tensor.name[:80]}"
            array = decode_tensor(tensor, where, max(len(tensor.raw_data), 2**26))
            scope.values[tensor.name] = self.constant(array, scope.prefix + tensor.name)
        self.walk(graph.node, scope)

    def walk(self, nodes: Sequence[onnx.NodeProto], scope: Scope) -> None:
        """Flatten nodes that are in order."""
        for node in nodes:
            self.count(node, scope)
            self._visit(functions.with_attributes(node, scope), scope)

    def count(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Count a step of the walk, and stop where there are too many."""
        self.visited += 1
        if self.visited > UNROLLED_NODES:
            raise refuse(
                node, f"brings the flat graph over {UNROLLED_NODES} nodes", prefix=scope.prefix,
                code=Code.LIMIT_EXCEEDED, instead="make the loops shorter, or write their bodies "
                "for all iterations at once")

    def constant(self, array: Array, wanted: str = "constant") -> FlatValue:
        """A value whose elements are known. It takes no room in the graph until a node reads it."""
        type_ = array_type(array)
        proto = onnx.helper.make_tensor_type_proto(ELEMENT_TYPES[type_.dtype], type_.shape)
        return FlatValue(self._value_names.unique(wanted), proto, array)

    def emit(
        self, op_type: str, inputs: Sequence[FlatValue], scope: Scope, name: str,
        **attributes: object,
    ) -> FlatValue:
        """Add a node of ours with one output."""
        node = onnx.helper.make_node(op_type, [], [name], name, **attributes)
        return self.add(node, inputs, scope)[0]

    def add(
        self, node: onnx.NodeProto, inputs: Sequence[FlatValue], scope: Scope
    ) -> list[FlatValue]:
        """Add a node, or compute it where that can be done here; the values of its outputs."""
        inputs = _scalars(inputs) if node.op_type == "Range" else inputs
        types = self._inferred(node, inputs, scope)
        arrays = None
        if node.op_type not in RANDOM_OPERATORS:
            arrays = compute(node, inputs, types, scope)
        if arrays is not None:
            return [self.constant(array, scope.prefix + name) if name else OMITTED
                    for array, name in zip(arrays, node.output, strict=False)]
        outputs = [self._result(name, type_, scope)
                   for name, type_ in zip(node.output, types, strict=True)]
        flat = onnx.NodeProto()
        flat.CopyFrom(node)
        del flat.input[:], flat.output[:]
        flat.input.extend(self._read(value) for value in inputs)
        flat.output.extend(value.name for value in outputs)
        flat.domain = ""
        flat.name = self._node_names.unique(f"{scope.prefix}{node.name or node.op_type}")
        self.nodes.append(flat)
        return outputs

    def inputs_of(self, node: onnx.NodeProto, scope: Scope) -> list[FlatValue]:
        """The values that a node reads.

        Raises:
            HomespunError: INVALID_GRAPH for one that nothing before the node makes.
        """
        found = [(name, scope.find(name)) for name in node.input]
        for name, value in found:
            if value is None:
                raise HomespunError(
                    Code.INVALID_GRAPH,
                    f"{title(node, scope.prefix)} reads {name[:80]!r}, which nothing before it "
                    "makes.")
        return [value for _, value in found if value is not None]

    def _visit(self, node: onnx.NodeProto, scope: Scope) -> None:
        inputs = self.inputs_of(node, scope)
        outputs = self._flattened(node, inputs, scope)
        for name, value in zip(node.output, outputs, strict=False):
            if name:
                scope.values[name] = value

    def _flattened(
        self, node: onnx.NodeProto, inputs: list[FlatValue], scope: Scope
    ) -> Sequence[FlatValue]:
        """The values of a node's outputs, by whatever flat nodes it takes."""
        local = self.functions.get((node.domain, node.op_type, node.overload))
        if local is not None:
            return functions.call(self, node, local, inputs, scope)
        if (node.domain, node.op_type) == STOP:
            return self._stopped(node, inputs[0], scope)
        if node.domain == classical.DOMAIN:
            return trees.lower(self, node, inputs, scope)
        if node.domain == functions.PREVIEW:
            body = functions.standard_function(node, inputs, scope)
            if body is not None:
                return functions.call(self, node, body, inputs, scope)
        if node.domain not in DEFAULT_DOMAINS:
            raise refuse(node, f"is of the domain {node.domain[:80]!r}; only standard ONNX "
                               "operators are accepted", prefix=scope.prefix)
        if node.op_type in control_flow.HANDLERS:
            return control_flow.HANDLERS[node.op_type](self, node, inputs, scope)
        schema = schema_of(node.op_type, scope.opset)
        untyped = schema is not None and not schema.has_type_and_shape_inference_function
        if node.op_type not in OPERATORS or untyped:  # The body tells the types then.
            body = functions.standard_function(node, inputs, scope)
            if body is not None:
                return functions.call(self, node, body, inputs, scope)
        return self.add(node, inputs, scope)

    def _stopped(
        self, node: onnx.NodeProto, value: FlatValue, scope: Scope
    ) -> Sequence[FlatValue]:
        """Keep the mark of a front end where no gradient passes."""
        if value.array is not None:
            return [value]
        result = self._result(node.output[0], value.type, scope)
        self.nodes.append(onnx.helper.make_node(
            node.op_type, [value.name], [result.name],
            self._node_names.unique(f"{scope.prefix}{node.name or node.op_type}"),
            domain=node.domain))
        return [result]

    def _inferred(
        self, node: onnx.NodeProto, inputs: Sequence[FlatValue], scope: Scope
    ) -> list[onnx.TypeProto | None]:
        """Types of the outputs, by the standard's own rule for the operator."""
        if any(value.name and value.type is None for value in inputs):
            return [None] * len(node.output)
        schema = schema_of(node.op_type, scope.opset)
        if schema is None:
            raise refuse(node, f"does not exist in opset {scope.opset}", prefix=scope.prefix)
        probe = onnx.NodeProto()
        probe.CopyFrom(node)
        del probe.input[:]
        # Positions as names: one value may be read twice, and names of scopes may be equal.
        places = [f"{place}" if value.name else "" for place, value in enumerate(inputs)]
        probe.input.extend(places)
        types = {place: value.type for place, value in zip(places, inputs, strict=True) if place}
        data = {
            place: encode_tensor(value.array, place)
            for place, value in zip(places, inputs, strict=True)
            if value.array is not None and value.array.size <= 1024 and place
        }
        try:
            found = infer_node_outputs(
                schema, probe, types, data,
                opset_imports=[onnx.helper.make_opsetid("", scope.opset)])
        except (InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise refuse(node, f"contradicts its inputs: {reason}", prefix=scope.prefix,
                         code=Code.INVALID_GRAPH) from error
        return [found.get(name) for name in node.output]

    def _result(self, name: str, type_: onnx.TypeProto | None, scope: Scope) -> FlatValue:
        if not name:
            return OMITTED
        is_output = not scope.depth and name in self._outputs  # These keep their names.
        fresh = name if is_output else self._value_names.unique(scope.prefix + name)
        if type_ is not None:
            self._types[fresh] = type_
        return FlatValue(fresh, type_)

    def _read(self, value: FlatValue) -> str:
        """The name of an input; a constant is in the graph from now on."""
        if value.array is not None:
            self._constants[value.name] = value.array
        return value.name

    def _output(self, name: str, scope: Scope, graph: onnx.GraphProto) -> None:
        """Give an output of the model its name where it is another value, known, or an input."""
        value = scope.find(name)
        if value is None:
            raise HomespunError(
                Code.INVALID_GRAPH, f"Nothing makes the graph output {name[:80]!r}.")
        type_ = value.type
        if value.name != name or value.array is not None:
            copy = onnx.helper.make_node("Identity", [self._read(value)], [name])
            copy.name = self._node_names.unique(f"{name}/Identity")
            self.nodes.append(copy)
        graph.output.add(name=name).type.CopyFrom(type_ or onnx.TypeProto())

    def _declare(self, graph: onnx.GraphProto) -> None:
        graph.initializer.extend(
            encode_tensor(array, name) for name, array in self._constants.items())
        shown = {value.name for value in graph.output}
        for name, type_ in self._types.items():
            if name not in shown:
                graph.value_info.add(name=name).type.CopyFrom(type_)


def _scalars(inputs: Sequence[FlatValue]) -> list[FlatValue]:
    """Known inputs of one element as scalars: the standard's own functions give `Range` vectors."""
    return [value if value.array is None or value.array.size != 1 else FlatValue(
                value.name, onnx.helper.make_tensor_type_proto(value.element_type, ()),
                value.array.reshape(())) for value in inputs]


class _Names:
    """Gives each name once."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self._numbers: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        name, number = wanted, self._numbers.get(wanted, 0)
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self._numbers[wanted] = number
        self.taken.add(name)
        return name


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the default domain that a model follows; the newest where it names none.

    Raises:
        HomespunError: INVALID_GRAPH for a model that names two.
    """
    versions = {e.version for e in model.opset_import if e.domain in DEFAULT_DOMAINS}
    if len(versions) > 1:
        raise HomespunError(
            Code.INVALID_GRAPH, f"The file names the opsets {sorted(versions)}; expected one.")
    return int(versions.pop()) if versions else int(onnx.defs.onnx_opset_version())


def check_static(model: onnx.ModelProto) -> None:
    """Refuse a flat model with a value whose shape depends on data, at the node that makes it.

    Raises:
        HomespunError: EXPORT_FAILED.
    """
    typed = {v.name: FlatValue(v.name, v.type)
             for v in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        for name in filter(None, node.output):
            value = typed.get(name)
            if value is not None and value.shape is None and value.element_type in DTYPES:
                raise refuse(
                    node, f"gives {name[:80]!r}, whose shape depends on data; a job needs static "
                    "shapes", code=Code.EXPORT_FAILED)
