"""Put the body of a function in place of its call: the model's own, and the standard's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx

from homespun.errors import Code
from ir.frontends.flat_value import OMITTED, FlatValue, Scope
from ir.frontends.refusals import refuse
from ir.frontends.schemas import ONLY_TYPES_CHANGE, schema_of, unknown_part
from ir.limits import IMPORT_DEPTH

if TYPE_CHECKING:
    from ir.frontends.flatten import Flattener

FunctionKey = tuple[str, str, str]
"""Domain, name, overload."""


def local_functions(model: onnx.ModelProto) -> Mapping[FunctionKey, onnx.FunctionProto]:
    """The functions that a model brings along."""
    return {(entry.domain, entry.name, entry.overload): entry for entry in model.functions}


def call(
    flat: Flattener, node: onnx.NodeProto, body: onnx.FunctionProto,
    inputs: Sequence[FlatValue], scope: Scope,
) -> list[FlatValue]:
    """Flatten a function's body with a call's inputs and attributes.

    Raises:
        HomespunError: UNSUPPORTED_OP for a body of another opset; LIMIT_EXCEEDED for functions
            that call each other without end; and what flattening its nodes raises.
    """
    if scope.depth >= IMPORT_DEPTH:
        raise refuse(
            node, f"is in more than {IMPORT_DEPTH} functions and subgraphs", prefix=scope.prefix,
            code=Code.LIMIT_EXCEEDED, instead="inline the functions when exporting")
    inner = Scope(
        f"{scope.prefix}{node.name or node.op_type}/", scope.opset,
        attributes=_attributes(node, body), depth=scope.depth + 1)
    _check_opset(node, body, scope)
    for place, name in enumerate(body.input):
        inner.values[name] = inputs[place] if place < len(inputs) else OMITTED
    flat.walk(body.node, inner)
    found = [inner.find(name) for name in body.output]
    if any(value is None for value in found[:len(node.output)]):
        raise refuse(node, "calls a function that does not make all of its outputs",
                     prefix=scope.prefix, code=Code.INVALID_GRAPH)
    return [value for value in found if value is not None]


def with_attributes(node: onnx.NodeProto, scope: Scope) -> onnx.NodeProto:
    """The node with the call's attributes in place of references to them."""
    if not any(entry.ref_attr_name for entry in node.attribute):
        return node
    given = scope.attributes or {}
    resolved = onnx.NodeProto()
    resolved.CopyFrom(node)
    del resolved.attribute[:]
    for entry in node.attribute:
        if not entry.ref_attr_name:
            resolved.attribute.append(entry)
        elif entry.ref_attr_name in given:
            resolved.attribute.add().CopyFrom(given[entry.ref_attr_name])
            resolved.attribute[-1].name = entry.name
    return resolved


PREVIEW = "ai.onnx.preview"
"""The standard's domain of operators that are defined by functions and may still change."""
PREVIEW_OPSET = 1


def standard_function(
    node: onnx.NodeProto, inputs: Sequence[FlatValue], scope: Scope
) -> onnx.FunctionProto | None:
    """The body by which the standard defines an operator, where it does so at this opset."""
    default = node.domain in ("", "ai.onnx")
    if default:
        schema = schema_of(node.op_type, scope.opset)
    else:
        schema = schema_of(node.op_type, PREVIEW_OPSET, node.domain)
    if schema is None:
        return None
    opset = scope.opset if default else PREVIEW_OPSET
    version = _newest(schema.function_opset_versions, opset)
    if version is not None:
        return onnx.FunctionProto.FromString(schema.get_function_with_opset_version(version))
    version = _newest(schema.context_dependent_function_opset_versions, opset)
    if version is None or any(value.name and value.type is None for value in inputs):
        return None
    types = [(value.type or onnx.TypeProto()).SerializeToString() for value in inputs]
    data = schema.get_context_dependent_function_with_opset_version(
        version, node.SerializeToString(), types)
    return onnx.FunctionProto.FromString(data) if data else None


def _newest(versions: Sequence[int], opset: int) -> int | None:
    return max((version for version in versions if version <= opset), default=None)


def _attributes(
    node: onnx.NodeProto, body: onnx.FunctionProto
) -> dict[str, onnx.AttributeProto]:
    """What the body's references mean in this call: given, or the function's own default."""
    found = {entry.name: entry for entry in body.attribute_proto}
    if node.domain in ("", "ai.onnx"):  # The standard writes defaults into the schema instead.
        schema = onnx.defs.get_schema(node.op_type, onnx.defs.onnx_opset_version(), "")
        for name, attribute in schema.attributes.items():
            if attribute.default_value.name:
                found.setdefault(name, attribute.default_value)
    found.update((entry.name, entry) for entry in node.attribute)
    return found


def _check_opset(node: onnx.NodeProto, body: onnx.FunctionProto, scope: Scope) -> None:
    """The body may name another opset only if its operators mean the same in both."""
    own = next((e.version for e in body.opset_import if e.domain in ("", "ai.onnx")), scope.opset)
    if own == scope.opset:
        return
    for inside in body.node:
        schema = schema_of(inside.op_type, scope.opset)
        if inside.domain not in ("", "ai.onnx") or schema is None:
            continue
        other = schema_of(inside.op_type, own)
        changed = other is None or other.since_version != schema.since_version
        old = min(own, scope.opset) < ONLY_TYPES_CHANGE
        if (changed and old) or unknown_part(inside, schema):
            raise refuse(
                node, f"calls a function at opset {own} whose operator {inside.op_type} is another "
                f"one in the graph's opset {scope.opset}", prefix=scope.prefix,
                instead=f"export the function at opset {scope.opset}")
