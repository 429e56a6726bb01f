"""`If`, `Loop` and `Scan` at import: decided, computed both ways, or unrolled.

A graph has no subgraphs, so what a job does may not depend on data in any way but through the
elements of tensors. Sources: the ONNX operator reference, If-21, Loop-21, Scan-21.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from homespun.errors import Code, HomespunError
from ir.frontends.flat_value import OMITTED, FlatValue, Scope
from ir.frontends.refusals import refuse
from ir.operators import RANDOM_OPERATORS
from ir.tensor_proto import DTYPES, numpy_dtype

if TYPE_CHECKING:
    from ir.frontends.flatten import Flattener

Handler = Callable[
    ["Flattener", onnx.NodeProto, Sequence[FlatValue], Scope], Sequence[FlatValue]]

_UNSQUEEZE_TAKES_AXES = 13
"""First opset in which the axes of `Unsqueeze` are an input."""
_SCAN_WITHOUT_BATCH = 9
"""First opset in which `Scan` has no batch axis."""
_FOREVER = 2**63 - 1


def _if(
    flat: Flattener, node: onnx.NodeProto, inputs: Sequence[FlatValue], scope: Scope
) -> Sequence[FlatValue]:
    branches = {entry.name: entry.g for entry in node.attribute}
    condition = inputs[0]
    if condition.array is not None:
        taken = "then_branch" if bool(condition.array.reshape(-1)[0]) else "else_branch"
        return _subgraph(flat, node, branches[taken], [], scope, taken.removesuffix("_branch"))
    return _both(flat, node, branches, condition, scope)


def _both(
    flat: Flattener, node: onnx.NodeProto, branches: Mapping[str, onnx.GraphProto],
    condition: FlatValue, scope: Scope,
) -> Sequence[FlatValue]:
    """Compute both branches and choose element by element, where that means the same."""
    begun = len(flat.nodes)
    then = _subgraph(flat, node, branches["then_branch"], [], scope, "then")
    other = _subgraph(flat, node, branches["else_branch"], [], scope, "else")
    draws = [made for made in flat.nodes[begun:] if made.op_type in RANDOM_OPERATORS]
    if draws:
        raise refuse(
            node, "has a condition that depends on data, and a branch that draws random numbers "
            f"({draws[0].op_type} {draws[0].name!r})", prefix=scope.prefix,
            instead="draw before the condition, and choose with Where")
    name = node.name or "If"
    flag = condition
    if condition.shape != ():
        flag = flat.emit("Reshape", [condition, flat.constant(np.zeros(0, np.int64))], scope,
                         f"{name}/condition")
    chosen = []
    for place, (left, right) in enumerate(zip(then, other, strict=True)):
        if left.shape is None or (left.shape, left.element_type) != (
                right.shape, right.element_type):
            raise refuse(
                node, f"has a condition that depends on data, and its output {place} is "
                f"{_shown(left)} in one branch and {_shown(right)} in the other",
                prefix=scope.prefix,
                instead="give both branches results of the same static shape, so that both can be "
                "computed and Where can choose")
        chosen.append(left if left is right else flat.emit(
            "Where", [flag, left, right], scope, f"{name}/{place}"))
    return chosen


def _loop(
    flat: Flattener, node: onnx.NodeProto, inputs: Sequence[FlatValue], scope: Scope
) -> Sequence[FlatValue]:
    body = _body(node)
    count, condition, *carried = (*inputs, OMITTED)[:max(2, len(inputs))]
    if count.name and count.array is None:
        raise _endless(node, scope, "its trip count depends on data")
    trips = _FOREVER if count.array is None else int(count.array.reshape(-1)[0])
    collected: list[list[FlatValue]] = [[] for _ in body.output[1 + len(carried):]]
    done = 0
    while done < trips and _goes_on(node, condition, done, scope):
        if not condition.name and trips == _FOREVER and not _ends(body):
            raise _endless(node, scope, "it has neither a trip count nor a condition that ends it")
        flat.count(node, scope)
        number = flat.constant(np.array(done, np.int64))
        given = condition if condition.name else flat.constant(np.array(True))
        condition, *results = _subgraph(
            flat, node, body, [number, given, *carried], scope, str(done))
        carried = results[:len(carried)]
        for rows, row in zip(collected, results[len(carried):], strict=True):
            rows.append(row)
        done += 1
    declared = body.output[1 + len(carried):]
    return [*carried, *(
        _stacked(flat, node, rows, 0, value, scope, place)
        for place, (rows, value) in enumerate(zip(collected, declared, strict=True)))]


def _scan(
    flat: Flattener, node: onnx.NodeProto, inputs: Sequence[FlatValue], scope: Scope
) -> Sequence[FlatValue]:
    if scope.opset < _SCAN_WITHOUT_BATCH:
        raise refuse(node, "is of opset 8, where Scan has a batch axis", prefix=scope.prefix,
                     instead="export with opset 9 or newer")
    body = _body(node)
    integers = {entry.name: list(entry.ints) or [entry.i] for entry in node.attribute}
    width = integers["num_scan_inputs"][0]
    states, columns = list(inputs[:len(inputs) - width]), inputs[len(inputs) - width:]
    axes = integers.get("scan_input_axes", [0] * width)
    length = _length(node, columns, axes, scope)
    backwards = integers.get("scan_input_directions", [0] * width)
    declared = body.output[len(states):]
    collected: list[list[FlatValue]] = [[] for _ in declared]
    for done in range(length):
        flat.count(node, scope)
        rows = [
            _row(flat, node, column, axis, length - 1 - done if reverse else done, scope)
            for column, axis, reverse in zip(columns, axes, backwards, strict=True)]
        results = _subgraph(flat, node, body, [*states, *rows], scope, str(done))
        states = list(results[:len(states)])
        for items, item in zip(collected, results[len(states):], strict=True):
            items.append(item)
    reverse = integers.get("scan_output_directions", [0] * len(declared))
    out_axes = integers.get("scan_output_axes", [0] * len(declared))
    return [*states, *(
        _stacked(flat, node, items[::-1] if back else items, axis, value, scope, place)
        for place, (items, back, axis, value) in enumerate(
            zip(collected, reverse, out_axes, declared, strict=True)))]


HANDLERS: Mapping[str, Handler] = {"If": _if, "Loop": _loop, "Scan": _scan}
"""Operator with subgraphs -> how it is flattened."""


def _subgraph(
    flat: Flattener, node: onnx.NodeProto, graph: onnx.GraphProto,
    inputs: Sequence[FlatValue], scope: Scope, label: str,
) -> list[FlatValue]:
    """Flatten a subgraph once; the values of its outputs."""
    inner = scope.inner(f"{node.name or node.op_type}/{label}")
    if len(graph.input) != len(inputs):
        raise refuse(
            node, f"has a subgraph with {len(graph.input)} inputs, but gives it {len(inputs)}",
            prefix=scope.prefix, code=Code.INVALID_GRAPH)
    for declared, value in zip(graph.input, inputs, strict=True):
        inner.values[declared.name] = value
    flat.enter(graph, inner)
    found = [inner.find(output.name) for output in graph.output]
    if any(value is None for value in found):
        raise refuse(node, "has a subgraph that does not make all of its outputs",
                     prefix=scope.prefix, code=Code.INVALID_GRAPH)
    return [value for value in found if value is not None]


def _goes_on(node: onnx.NodeProto, condition: FlatValue, done: int, scope: Scope) -> bool:
    if not condition.name:
        return True
    if condition.array is None:
        raise _endless(node, scope, f"its condition depends on data (iteration {done})")
    return bool(condition.array.reshape(-1)[0])


def _ends(body: onnx.GraphProto) -> bool:
    """Whether the body computes a condition, so that a loop without trip count may end."""
    made = {name: made for made in body.node for name in made.output}
    maker = made.get(body.output[0].name)
    return maker is not None and maker.op_type not in ("Identity", "Constant")


def _endless(node: onnx.NodeProto, scope: Scope, reason: str) -> HomespunError:
    return refuse(
        node, f"has no bound that is known before the run: {reason}", prefix=scope.prefix,
        instead="give the loop a constant trip count, and choose with Where what an iteration "
        "changes")


def _length(
    node: onnx.NodeProto, columns: Sequence[FlatValue], axes: Sequence[int], scope: Scope
) -> int:
    lengths = set()
    for column, axis in zip(columns, axes, strict=True):
        if column.shape is None:
            raise _endless(node, scope, f"the shape of {column.name!r} is not static")
        lengths.add(column.shape[axis])
    if len(lengths) != 1:
        raise refuse(node, f"scans inputs of different lengths {sorted(lengths)}",
                     prefix=scope.prefix, code=Code.INVALID_GRAPH)
    return lengths.pop()


def _row(
    flat: Flattener, node: onnx.NodeProto, column: FlatValue, axis: int, place: int, scope: Scope
) -> FlatValue:
    index = flat.constant(np.array(place, np.int64))
    return flat.emit("Gather", [column, index], scope, f"{node.name or 'Scan'}/{place}/row",
                     axis=axis)


def _stacked(
    flat: Flattener, node: onnx.NodeProto, rows: Sequence[FlatValue], axis: int,
    declared: onnx.ValueInfoProto, scope: Scope, place: int,
) -> FlatValue:
    """One value of what all iterations gave."""
    name = f"{node.name or node.op_type}/stacked_{place}"
    if not rows:
        row = FlatValue("", declared.type)
        if row.shape is None or row.element_type not in DTYPES:
            raise refuse(node, f"runs no iteration, and the shape of its output "
                               f"{declared.name!r} is not declared", prefix=scope.prefix)
        shape = (*row.shape[:axis], 0, *row.shape[axis:])
        return flat.constant(np.zeros(shape, numpy_dtype(DTYPES[row.element_type])))
    wide = [_unsqueezed(flat, row, axis, scope, f"{name}/{number}")
            for number, row in enumerate(rows)]
    return flat.emit("Concat", wide, scope, name, axis=axis)


def _unsqueezed(
    flat: Flattener, row: FlatValue, axis: int, scope: Scope, name: str
) -> FlatValue:
    if scope.opset < _UNSQUEEZE_TAKES_AXES:
        return flat.emit("Unsqueeze", [row], scope, name, axes=[axis])
    axes = flat.constant(np.array([axis], np.int64))
    return flat.emit("Unsqueeze", [row, axes], scope, name)


def _body(node: onnx.NodeProto) -> onnx.GraphProto:
    return next(entry.g for entry in node.attribute if entry.name == "body")


def _shown(value: FlatValue) -> str:
    dtype = DTYPES.get(value.element_type, "of another type")
    return f"{dtype} {'of unknown shape' if value.shape is None else list(value.shape)}"
