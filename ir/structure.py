"""The shape of an untrusted graph, before anything in it is read: names, order, counts, kinds.

One pass that touches names only, so that a hostile graph of a mebibyte is refused in milliseconds,
with the node that is wrong. What it proves (every value is defined once, before it is read; nodes
are named and of the standard domain; no attribute holds a graph) `ir.serde` relies on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx

from homespun.errors import Code, HomespunError
from ir import limits

DEFAULT_DOMAINS = ("", "ai.onnx")
_KINDS = onnx.AttributeProto
_PLAIN_KINDS = frozenset({
    _KINDS.FLOAT, _KINDS.INT, _KINDS.STRING, _KINDS.FLOATS, _KINDS.INTS, _KINDS.STRINGS,
    _KINDS.TENSOR})
_CLIMBS = re.compile(r"(^|[/\\])\.\.([/\\]|$)")


def check_structure(graph: onnx.GraphProto) -> None:
    """Refuse a graph whose names, order or kinds are wrong.

    Raises:
        HomespunError: INVALID_GRAPH, UNSUPPORTED_OP or LIMIT_EXCEEDED, naming the node or value.

    Cost: O(nodes + edges).
    """
    if len(graph.node) > limits.NODES:
        raise _over("NODES", "The graph", len(graph.node), limits.NODES, "nodes")
    defined: set[str] = set()
    _define((value.name for value in graph.input), "Graph input", defined)
    _define((tensor.name for tensor in graph.initializer), "Constant", defined)
    names: set[str] = set()
    index = 0
    for proto in graph.node:
        name = proto.name or f"{proto.op_type}_{index}"
        try:
            _check_node(proto, name, names, defined)
        except HomespunError as error:
            title = node_title(index, name, proto.op_type)
            raise HomespunError(
                error.code, f"{title}{error.message}", node=index, name=name, op=proto.op_type,
                **error.details) from None
        index += proto.op_type != "Constant"
    for value in graph.output:
        if value.name not in defined:
            raise _invalid(f"The graph output {value.name[:80]!r} is defined nowhere.")


def node_title(index: int, name: str, op_type: str) -> str:
    """How messages name a node of an untrusted graph."""
    return f"Node {index} {name[:120]!r} ({op_type[:80]!r})"


def check_name(name: str | bytes) -> None:
    """Refuse a name that could not be shown on a terminal or would mean a path elsewhere.

    Raises:
        HomespunError: with a message that goes on from the title of what has the name.
    """
    if isinstance(name, bytes):  # What protobuf gives for a string that is not UTF-8.
        raise _invalid(" has a name that is not text.")
    if len(name) > limits.NAME_CHARACTERS:
        raise _over("NAME_CHARACTERS", "", len(name), limits.NAME_CHARACTERS, "characters")
    if not name or not name.isprintable():
        raise _invalid(" has an empty or unprintable name.")
    if ".." in name and _CLIMBS.search(name):
        raise _invalid(f" has a name that climbs out of a folder: {name[:80]!r}.")


def _define(names: Iterable[str], title: str, defined: set[str]) -> None:
    for name in names:
        try:
            check_name(name)
            if name in defined:
                raise _invalid(" exists already.")
        except HomespunError as error:
            raise HomespunError(
                error.code, f"{title} {name[:80]!r}{error.message}", value=name[:80],
                **error.details) from None
        defined.add(name)


def _check_node(
    proto: onnx.NodeProto, name: str, names: set[str], defined: set[str]
) -> None:
    check_name(name)
    check_name(proto.op_type)
    if name in names:
        raise _invalid(": another node has the same name.")
    names.add(name)
    if proto.domain not in DEFAULT_DOMAINS or proto.overload:
        raise _unsupported(
            f" is of the domain {proto.domain[:80]!r}; only standard operators are accepted.")
    inputs, outputs = proto.input, proto.output
    if len(inputs) > limits.INPUTS_PER_NODE:
        raise _over("INPUTS_PER_NODE", "", len(inputs), limits.INPUTS_PER_NODE, "inputs")
    if len(outputs) > limits.OUTPUTS_PER_NODE:
        raise _over("OUTPUTS_PER_NODE", "", len(outputs), limits.OUTPUTS_PER_NODE, "outputs")
    for value in inputs:
        if value and value not in defined:
            raise _invalid(
                f" reads {value[:80]!r}, which no earlier node, input or constant defines (a "
                "cycle, or nodes out of order).")
    if proto.attribute:
        _check_attributes(proto)
    for value in outputs:
        if not value:
            continue
        check_name(value)
        if value in defined:
            raise _invalid(f" defines the value {value[:80]!r}, which exists already.")
        defined.add(value)


def _check_attributes(proto: onnx.NodeProto) -> None:
    entries = proto.attribute
    if len(entries) > limits.ATTRIBUTES_PER_NODE:
        raise _over(
            "ATTRIBUTES_PER_NODE", "", len(entries), limits.ATTRIBUTES_PER_NODE, "attributes")
    names = {entry.name for entry in entries}
    if len(names) != len(entries):
        raise _invalid(" has an attribute twice.")
    for entry in entries:
        check_name(entry.name)
        if entry.ref_attr_name:
            raise _unsupported(f": attribute {entry.name[:80]!r} refers to a function's attribute.")
        if entry.type not in _PLAIN_KINDS:
            kind = _KINDS.AttributeType.Name(entry.type)
            raise _unsupported(
                f": attribute {entry.name[:80]!r} is of kind {kind}; subgraphs and such are not "
                "accepted. Import the model again: loops of known length and branches are written "
                "out there.")


def _over(limit: str, title: str, had: int, allowed: int, unit: str) -> HomespunError:
    return HomespunError(
        Code.LIMIT_EXCEEDED, f"{title} has {had} {unit}; at most {allowed} are accepted.",
        limit=limit, had=had, allowed=allowed)


def _invalid(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_GRAPH, message)


def _unsupported(message: str) -> HomespunError:
    return HomespunError(Code.UNSUPPORTED_OP, message)
