"""Nodes of a traced graph: where they come from, and a mark that stops the gradient of one."""

from __future__ import annotations

import re
from pathlib import PurePath

import torch

from ir.frontends.canonical import STOP

_ONNX_TYPES = {torch.float32: 1, torch.float16: 10, torch.float64: 11, torch.bfloat16: 16}
"""Float type -> its number in `onnx.TensorProto`."""
_NO_ATTRIBUTES = (
    "attr_keys", "attr_types", "attr_pos", "attr_ints", "attr_floats", "attr_strs",
    "metadata_props_keys", "metadata_props_values")


def stopped(graph: torch.fx.Graph, value: torch.fx.Node) -> torch.fx.Node:
    """Add a node that gives a float tensor without its gradient, behind the one that makes it.

    The exporter keeps such a node; open extents of the tensor stay open.
    """
    tensor = value.meta["val"]
    with graph.inserting_after(value):
        marked = graph.call_function(
            torch.ops.onnx_symbolic._symbolic.default,
            ([value], STOP[1], _ONNX_TYPES[tensor.dtype]),
            {**{key: [] for key in _NO_ATTRIBUTES}, "domain": STOP[0], "version": 1})
    with graph.inserting_before(marked):
        shape = [_extent(graph, value, axis) for axis in range(tensor.ndim)]
    marked.kwargs = {**marked.kwargs, "shape": shape}
    marked.meta["val"] = tensor
    return marked


def _extent(graph: torch.fx.Graph, value: torch.fx.Node, axis: int) -> int | torch.fx.Node:
    """One extent of a tensor: a number, or a node that computes it where the axis is open."""
    extent = value.meta["val"].shape[axis]
    if isinstance(extent, int):
        return extent
    node = graph.call_function(torch.ops.aten.sym_size.int, (value, axis))
    node.meta["val"] = extent
    return node


def place(node: torch.fx.Node) -> str:
    """The user's line, from the exporter's stack trace, such as ` (model.py, line 12)`."""
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [
        (path, line) for path, line in lines
        if PurePath(path).parent != PurePath(__file__).parent
        and "torch" not in PurePath(path).parts
    ]
    return f" ({PurePath(own[-1][0]).name}, line {own[-1][1]})" if own else ""
