"""Bound the cost of parsing an ONNX file before a protobuf parser touches it.

The walk visits field headers only: it counts them, checks that every length stays inside its
parent, and stops at the first excess. It knows which fields of ONNX are messages, so that their
contents count too. Source: protobuf encoding guide (wire types 0, 1, 2, 5); onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

from homespun.errors import Code, HomespunError
from ir.limits import FIELDS, GRAPH_BYTES, NESTING

Schema = Mapping[int, str]

MESSAGES: Mapping[str, Schema] = {
    "Model": {7: "Graph", 8: "Leaf", 14: "Leaf", 20: "Training", 25: "Function", 26: "Leaf"},
    "Training": {1: "Graph", 2: "Graph", 3: "Leaf", 4: "Leaf"},
    "Function": {7: "Node", 9: "Leaf", 11: "Attribute", 12: "ValueInfo", 14: "Leaf"},
    "Graph": {
        1: "Node", 5: "Tensor", 11: "ValueInfo", 12: "ValueInfo", 13: "ValueInfo",
        14: "Annotation", 15: "Sparse", 16: "Leaf",
    },
    "Node": {5: "Attribute", 9: "Leaf", 10: "Device"},
    "Device": {2: "Sharding"},
    "Sharding": {3: "Leaf", 4: "ShardedDim"},
    "ShardedDim": {2: "Leaf"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 14: "Type", 15: "Type",
        22: "Sparse", 23: "Sparse",
    },
    "Tensor": {3: "Leaf", 13: "Leaf", 16: "Leaf"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Annotation": {2: "Leaf"},
    "ValueInfo": {2: "Type", 4: "Leaf"},
    "Type": {1: "TensorType", 4: "Element", 5: "Map", 8: "TensorType", 9: "Element"},
    "Element": {1: "Type"},
    "Map": {2: "Type"},
    "TensorType": {2: "Shape"},
    "Shape": {1: "Leaf"},
    "Leaf": {},
}


def check_bounds(data: bytes) -> None:
    """Refuse bytes that would cost too much to parse as an ONNX model.

    Args:
        data: a serialised `ModelProto`, untrusted.

    Raises:
        HomespunError: LIMIT_EXCEEDED for too many bytes, fields or levels; INVALID_GRAPH for bytes
            that are not protobuf.

    Cost: linear in the number of fields, at most `limits.FIELDS`; contents are not read.
    """
    if len(data) > GRAPH_BYTES:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"The graph has {len(data)} bytes; at most {GRAPH_BYTES} are accepted. Weights belong "
            "into separate blobs.",
            limit="GRAPH_BYTES", had=len(data), allowed=GRAPH_BYTES,
        )
    # An explicit stack instead of recursion: depth is the attacker's choice.
    stack: list[tuple[int, Schema]] = [(len(data), MESSAGES["Model"])]
    position, fields = 0, 0
    while stack:
        end, schema = stack[-1]
        if position == end:
            stack.pop()
            continue
        fields += 1
        if fields > FIELDS:
            raise HomespunError(
                Code.LIMIT_EXCEEDED, f"The graph has more than {FIELDS} fields.",
                limit="FIELDS", allowed=FIELDS,
            )
        tag, position = _varint(data, position, end)
        position, stop = _field_body(data, position, end, tag & 7)
        child = schema.get(tag >> 3)
        if tag & 7 == 2 and child is not None:
            if len(stack) >= NESTING:
                raise HomespunError(
                    Code.LIMIT_EXCEEDED,
                    f"The graph nests messages deeper than {NESTING} levels.",
                    limit="NESTING", allowed=NESTING,
                )
            stack.append((stop, MESSAGES[child]))
        else:
            position = stop


def _field_body(data: bytes, position: int, end: int, wire_type: int) -> tuple[int, int]:
    """Start and end of a field's contents."""
    if wire_type == 0:
        stop = _varint(data, position, end)[1]
    elif wire_type == 1:
        stop = position + 8
    elif wire_type == 5:
        stop = position + 4
    elif wire_type == 2:
        length, position = _varint(data, position, end)
        stop = position + length
    else:
        raise _not_protobuf(position)
    if stop > end:
        raise _not_protobuf(position)
    return position, stop


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Value of the varint at `position` and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _not_protobuf(position)


def _not_protobuf(position: int) -> HomespunError:
    return HomespunError(
        Code.INVALID_GRAPH,
        f"The graph is not an ONNX file: its bytes make no sense at offset {position}.",
        offset=position,
    )
