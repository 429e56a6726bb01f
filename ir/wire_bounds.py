"""Bound the cost of parsing an ONNX file before a protobuf parser touches it.

The walk visits field headers only: it counts them, checks that every length stays inside its
parent, and stops at the first excess. It knows which fields of ONNX are messages, so that their
contents count too. Source: protobuf encoding guide (wire types 0, 1, 2, 5); onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

from homespun.errors import Code, HomespunError
from ir.limits import DENSE_FIELDS, FIELD_BYTES, FIELDS, GRAPH_BYTES, NESTING

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


class _Level(dict[int, "_Level | None"]):
    """A message type: number of each field that is a message -> its type, None for a leaf."""


def _linked() -> _Level:
    """The schema as objects that point to each other, so that the walk looks names up never."""
    levels = {name: _Level() for name in MESSAGES}
    for name, fields in MESSAGES.items():
        for number, child in fields.items():
            levels[name][number] = None if child == "Leaf" else levels[child]
    return levels["Model"]


_MODEL = _linked()
_ABSENT = _Level()


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
    stack: list[tuple[int, _Level]] = []
    position, fields, checked = 0, 0, DENSE_FIELDS
    end, level = len(data), _MODEL
    while True:
        if position == end:
            if not stack:
                _check_count(fields, max(position, DENSE_FIELDS * FIELD_BYTES))
                return
            end, level = stack.pop()
            continue
        fields += 1
        if fields >= checked:
            _check_count(fields, position)
            checked = fields + DENSE_FIELDS
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1, end)
        if tag & 7 != 2:
            position = _skipped(data, position, end, tag & 7)
            continue
        # Nearly every length is one byte: a call for each would double the time of the walk.
        if position < end and (length := data[position]) < 0x80:
            position += 1
        else:
            length, position = _varint(data, position, end)
        stop = position + length
        if stop > end:
            raise _not_protobuf(position)
        child = level.get(tag >> 3, _ABSENT)
        if child is _ABSENT:
            position = stop
        elif child is None:
            fields += length // 2  # each field of a leaf takes two bytes or more
            position = stop
        else:
            if len(stack) >= NESTING - 1:
                raise HomespunError(
                    Code.LIMIT_EXCEEDED,
                    f"The graph nests messages deeper than {NESTING} levels.",
                    limit="NESTING", allowed=NESTING,
                )
            stack.append((end, level))
            end, level = stop, child


def _check_count(fields: int, position: int) -> None:
    """Refuse too many fields, or more than a graph of this size can need."""
    if fields > FIELDS:
        raise HomespunError(
            Code.LIMIT_EXCEEDED, f"The graph has more than {FIELDS} fields.",
            limit="FIELDS", allowed=FIELDS,
        )
    if position < fields * FIELD_BYTES:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"The graph has {fields} fields in its first {position} bytes; a field takes at least "
            f"{FIELD_BYTES} bytes on average. It is full of empty messages.",
            limit="FIELD_BYTES", had=position / fields, allowed=FIELD_BYTES,
        )


def _skipped(data: bytes, position: int, end: int, wire_type: int) -> int:
    """Position after a field without length."""
    if wire_type == 0:
        if position < end and data[position] < 0x80:
            return position + 1
        return _varint(data, position, end)[1]
    if wire_type not in (1, 5):
        raise _not_protobuf(position)
    position += 8 if wire_type == 1 else 4
    if position > end:
        raise _not_protobuf(position)
    return position


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
