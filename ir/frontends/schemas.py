"""Questions about the standard's own description of an operator, version by version."""

from __future__ import annotations

import onnx

ONLY_TYPES_CHANGE = 13
"""From this version of the default domain on, a version of an operator differs from the one before
in accepted types, and in attributes and inputs that were added or became one another. Nothing that
can be said in both means something else."""


def schema_of(op_type: str, opset: int, domain: str = "") -> onnx.defs.OpSchema | None:
    """The operator of a domain in a version; None if that version does not have it."""
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


def unknown_part(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> str | None:
    """The first attribute or input that a node has and the operator in this version does not."""
    for entry in node.attribute:
        if entry.name not in schema.attributes:
            return f"attribute {entry.name!r}"
    for place, name in enumerate(node.input):
        if name and place >= schema.max_input:
            return f"input {place}"
    return None
