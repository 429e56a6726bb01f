"""The last stretch of every front end: simplify, fuse, type every value, freeze."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import onnx
import onnx_ir as ir

from homespun.errors import Code, HomespunError
from ir import serde
from ir.frontends.quiet import quiet
from ir.frontends.refusals import refuse
from ir.graph import Graph, Node
from ir.operators import OPERATORS, OPSET, OPSETS
from ir.passes.fusions import FUSIONS
from ir.passes.simplify import simplify, tidy

STOP = ("homespun", "StopGradient")
"""Domain and name of a node that gives its input and stops the gradient. Only front ends see it:
it becomes an `Identity` whose result is in `Graph.stopped`."""
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"


def freeze(
    model: ir.Model, parameters: Sequence[str], *, updated: Sequence[str] = (),
    keep_names: bool = False,
) -> Graph:
    """Turn an edited model into a graph: the same model gives the same graph every time.

    Args:
        model: opset 23 to 28; parameters are graph inputs, without values. It is edited in place.
        parameters: names of those inputs, in order. Unused ones are left out of the graph.
        updated: parameters that the model's last outputs replace, in this order
            (`Graph.updates`); those outputs are no results of the graph.
        keep_names: leave the names of nodes as they are, where they are unique.

    Raises:
        HomespunError: EXPORT_FAILED where a shape cannot be known, and what `serde.load` raises.
    """
    _simplified(model)
    used = _drop_unused(model, parameters, updated)
    _separate_outputs(model.graph)
    _name_nodes(model.graph, keep_names)
    _check_operators(model.graph)
    _drop_notes(model)
    _note_stopped(model)
    proto = _typed(model)
    made = [value.name for value in model.graph.outputs][len(model.graph.outputs) - len(updated):]
    updates = json.dumps(dict(zip(updated, made, strict=True)))
    proto.metadata_props.add(key=serde.UPDATES_KEY, value=updates)
    graph = serde.load(proto.SerializeToString(deterministic=True), parameters=used)
    return replace(graph, outputs=graph.outputs[:len(graph.outputs) - len(updated)])


def rename(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Give values the names in `names`; all others are called after the node that makes them.

    Args:
        graph: any graph.
        names: old -> new name of inputs, parameters and outputs; new names are unique.
    """
    taken = {"", *names.values()}
    mapping = {"": "", **names}
    for number, constant in enumerate(graph.constants):
        mapping[constant] = _fresh(f"constant_{number}", taken)
    for node in graph.nodes:
        for position, output in enumerate(node.outputs):
            if output not in mapping:
                wanted = f"{node.name}.{position}" if position else node.name
                mapping[output] = _fresh(wanted, taken)

    def renamed(values: Iterable[str]) -> tuple[str, ...]:
        return tuple(mapping[value] for value in values)

    def renamed_node(node: Node) -> Node:
        return replace(node, inputs=renamed(node.inputs), outputs=renamed(node.outputs))

    return Graph(
        opset=graph.opset,
        nodes=tuple(renamed_node(node) for node in graph.nodes),
        inputs=renamed(graph.inputs),
        parameters=renamed(graph.parameters),
        outputs=renamed(graph.outputs),
        constants={mapping[name]: array for name, array in graph.constants.items()},
        types={mapping[name]: type_ for name, type_ in graph.types.items()},
        updates={mapping[name]: mapping[value] for name, value in graph.updates.items()},
        stopped=frozenset(renamed(graph.stopped)),
    )


def _simplified(model: ir.Model) -> None:
    """Run the passes."""
    for node in model.graph:
        if node.domain in ("", "ai.onnx") or (node.domain, node.op_type) == STOP:
            continue
        if node.op_identifier() not in model.functions:
            raise refuse(
                ir.to_proto(node), f"is of the domain {node.domain!r}; only standard ONNX "
                "operators are accepted")
    try:
        with quiet():
            simplify(model)
            if sum(fuse(model) for fuse in FUSIONS.values()):
                tidy(model)
    # The passes assume a valid graph and raise whatever comes up when it is not one.
    except Exception as error:
        raise HomespunError(
            Code.EXPORT_FAILED, f"The graph cannot be simplified: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}"


def _fresh(wanted: str, taken: set[str]) -> str:
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted


def _drop_unused(
    model: ir.Model, parameters: Sequence[str], updated: Sequence[str]
) -> tuple[str, ...]:
    """Remove parameters that no node reads or replaces; the names of the others, in order."""
    lifted = frozenset(parameters).difference(updated)
    unused = {
        value.name for value in model.graph.inputs
        if value.name in lifted and not value.uses() and not value.is_graph_output()
    }
    kept = [value for value in model.graph.inputs if value.name not in unused]
    model.graph.inputs.clear()
    model.graph.inputs.extend(kept)
    return tuple(name for name in parameters if name not in unused)


def _separate_outputs(graph: ir.Graph) -> None:
    """Make every output one node's result: copy what is an input, a constant, or listed before."""
    seen: set[str | None] = set()
    for position, value in enumerate(graph.outputs):
        if value.producer() is None or value.name in seen:
            copy = ir.node("Identity", [value])
            copy.outputs[0].name = f"{value.name} (output {position})"
            copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
            graph.append(copy)
            graph.outputs[position] = copy.outputs[0]
        seen.add(value.name)


def _name_nodes(graph: ir.Graph, keep_names: bool) -> None:
    """Call nodes after the module they come from: `blocks.0.qkv/MatMul_12`."""
    taken: set[str] = set()
    for index, node in enumerate(graph):
        scope = _scope(node.metadata_props.get(_SCOPES_KEY, ""))
        name = f"{scope}/{node.op_type}_{index}" if scope else f"{node.op_type}_{index}"
        node.name = _fresh(node.name if keep_names and node.name else name, taken)


def _scope(scopes: str) -> str:
    """The innermost module in the exporter's note, without the wrapper's own `model.`."""
    try:
        names = ast.literal_eval(scopes) if scopes else []
    except (ValueError, SyntaxError):
        names = []
    module = str(names[-2]) if len(names) > 1 else ""
    return module.removeprefix("model").removeprefix(".")


def _check_operators(graph: ir.Graph) -> None:
    """Refuse what no executor runs while the user's lines are still known."""
    for node in graph:
        if node.op_type not in OPERATORS and (node.domain, node.op_type) != STOP:
            raise refuse(ir.to_proto(node), "is an operator that no executor runs")


def _drop_notes(model: ir.Model) -> None:
    """Remove everything that names the submitter's files, code or software."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    common_values = (*model.graph.inputs, *model.graph.initializers.values())
    for value in (*common_values, *(out for node in model.graph for out in node.outputs)):
        value.metadata_props.clear()
        value.doc_string = None


def _note_stopped(model: ir.Model) -> None:
    """Turn each node that stops a gradient into one that does nothing, and list its result."""
    stopped = []
    for node in model.graph:
        if (node.domain, node.op_type) == STOP:
            node.domain, node.op_type = "", "Identity"
            stopped.append(node.outputs[0].name)
    if stopped:
        model.metadata_props[serde.STOPPED_KEY] = json.dumps(stopped)


def _typed(model: ir.Model) -> onnx.ModelProto:
    """Serialise with the inferred type of every value."""
    model.ir_version = serde.IR_VERSION
    for domain in tuple(model.opset_imports):
        if domain not in ("", "ai.onnx"):
            del model.opset_imports[domain]
    if model.opset_imports.get("", OPSET) not in OPSETS:
        model.opset_imports[""] = OPSET
    proto = ir.to_proto(model)
    try:
        try:
            return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError:
            # It takes integers that are data for shapes, and refuses what broadcasts well.
            return onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise HomespunError(
            Code.EXPORT_FAILED,
            f"The shapes of the model's values cannot be known: {_first_line(error)}",
        ) from error
