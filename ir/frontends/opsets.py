"""Bring a flat model to the opset of its graph: 23, or the lowest that has its operators."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from homespun.errors import Code, HomespunError
from ir.frontends import classical
from ir.frontends.flatten import DEFAULT_DOMAINS, flatten, opset_of
from ir.frontends.refusals import refuse
from ir.frontends.schemas import schema_of, unknown_part
from ir.graph import Node
from ir.operators import OPERATORS, OPSET, OPSETS
from ir.operators import opset_of as first_opset
from ir.tensor_proto import Array

ACCEPTED = range(7, 29)
"""Versions of the default domain that a file may have; below 13, as far as ONNX converts it."""


_CHANGED = frozenset({
    "BatchNormalization", "Dropout", "Hardmax", "LogSoftmax", "Resize", "Scan", "Softmax", "TopK",
    "Upsample",
})
"""Operators that say the same before opset 13 and mean something else."""


def checked_opset(model: onnx.ModelProto) -> int:
    """The opset of a model, if it is one of `ACCEPTED`.

    Raises:
        HomespunError: INVALID_GRAPH.
    """
    version = opset_of(model)
    if version not in ACCEPTED:
        raise HomespunError(
            Code.INVALID_GRAPH,
            f"The file uses opset {version}; accepted are {ACCEPTED[0]} to {ACCEPTED[-1]}. Export "
            f"the model with opset {OPSET}.")
    return version


def graph_opset(model: onnx.ModelProto) -> int:
    """The lowest opset that a graph may have and that has all that a flat model uses."""
    return max((first_opset(_as_node(proto)) for proto in model.graph.node
                if proto.op_type in OPERATORS), default=OPSET)


def _as_node(proto: onnx.NodeProto) -> Node:
    """What decides a node's opset: operator, inputs, and names of attributes."""
    return Node(0, proto.name, proto.op_type, tuple(proto.input), tuple(proto.output),
                {entry.name: 0 for entry in proto.attribute})


def convert(model: onnx.ModelProto) -> onnx.ModelProto:
    """A flat model at the opset that its graph will carry.

    Args:
        model: flat and typed, at one of `ACCEPTED`. It is not changed.

    Raises:
        HomespunError: INVALID_GRAPH for another opset; UNSUPPORTED_OP for an operator that is
            another one there, naming the node where one node is at fault.
    """
    version = checked_opset(model)
    if version in OPSETS:
        return _relabelled(model, version)
    try:
        converted = onnx.version_converter.convert_version(model, OPSET)
    # The converter is C++ and raises RuntimeError and ConvertError alike.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"The graph cannot be converted from opset {version} to {OPSET}: {reason}. Export it "
            f"with opset {OPSET}.") from error
    _keep_notes(model, converted)
    return converted


def _keep_notes(model: onnx.ModelProto, converted: onnx.ModelProto) -> None:
    """Put the exporter's notes back on the nodes: the converter drops them."""
    notes = {node.output[0]: node.metadata_props for node in model.graph.node if node.output}
    for node in converted.graph.node:
        if node.output and node.output[0] in notes:
            node.metadata_props.extend(notes[node.output[0]])


def _relabelled(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """The model at a lower version of 23 to 28: what changed in between are types, not meaning.

    Where a node says more than the operator could say before (a new attribute or input), there is
    no older node with its meaning.
    """
    wanted = graph_opset(model)
    for node in model.graph.node:
        versions = (schema_of(node.op_type, candidate) for candidate in range(wanted, version + 1))
        schema = next(filter(None, versions), None)
        extra = unknown_part(node, schema) if schema is not None else None
        if extra is not None:
            raise refuse(
                node, f"gives {extra}, which the operator has in opset {version}, but not yet in "
                f"{wanted}", instead=f"export the model with opset {OPSET}")
    relabelled = onnx.ModelProto()
    relabelled.CopyFrom(model)
    del relabelled.opset_import[:]
    relabelled.opset_import.add(domain="", version=wanted)
    return relabelled


def _raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """A file of an estimator at the opset in which we write it out.

    Converters of estimators write the lowest version that has the few standard operators between
    them, such as `Cast`; those mean the same now.
    """
    for node in model.graph.node:
        schema = None if node.domain not in DEFAULT_DOMAINS else schema_of(
            node.op_type, classical.OLDEST)
        part = unknown_part(node, schema) if schema is not None else None
        if part is not None or (schema is not None and node.op_type in _CHANGED):
            raise refuse(
                node, f"is another operator in opset {classical.OLDEST}",
                instead=f"convert the estimator with target_opset {classical.OLDEST} or newer")
    raised = onnx.ModelProto()
    raised.CopyFrom(model)
    for entry in raised.opset_import:
        if entry.domain in DEFAULT_DOMAINS:
            entry.version = classical.OLDEST
    return raised


def prepared(model: onnx.ModelProto, known: Mapping[str, Array]) -> onnx.ModelProto:
    """Flatten a model of static inputs, convert it, and flatten what conversion brought in."""
    version = checked_opset(model)
    if version < classical.OLDEST and any(n.domain == classical.DOMAIN for n in model.graph.node):
        model = _raised(model)
    flat = convert(flatten(model, known))
    return flat if version in OPSETS else flatten(flat)
