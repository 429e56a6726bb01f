"""Whether an untrusted graph may enter a network: bounds, structure, types, work, memory.

Everything is known before anything is allocated, in the order of what it costs to find out, so that
a hostile graph costs the broker milliseconds: `wire_bounds` counts fields, `structure` looks at
names, `serde` reads types and constants, `check` infers every shape in Python integers, and the
rest adds up what the graph would cost those who run it.
"""

from __future__ import annotations

from homespun.errors import Code, HomespunError
from ir import limits, serde
from ir.check import check
from ir.cost import node_cost
from ir.graph import TRAIN, Graph, Node


def admit(data: bytes, kind: str = TRAIN) -> Graph:
    """Read a graph from untrusted bytes, or say why it may not run.

    Args:
        data: a serialised ONNX `ModelProto`.
        kind: what it is for, `TRAIN` or `INFER`.

    Raises:
        HomespunError: INVALID_GRAPH, UNSUPPORTED_OP or LIMIT_EXCEEDED; it names the node or value.

    Cost: linear in the bytes and in nodes plus edges.
    """
    graph = serde.load(data)
    check_admission(graph, kind)
    return graph


def check_admission(graph: Graph, kind: str = TRAIN) -> None:
    """Refuse a graph that is wrong, or that asks for more than any network could give.

    Args:
        graph: any graph.
        kind: what it is for, `TRAIN` or `INFER`.

    Raises:
        HomespunError: as `ir.check.check`; LIMIT_EXCEEDED, naming the node that brings the work
            over the limit or whose operands alone are too large, or the parameters.
    """
    check(graph, kind)
    weights = sum(graph.types[name].size_bytes for name in graph.parameters)
    if weights > limits.PARAMETERS_BYTES:
        raise _over("PARAMETERS_BYTES", "The parameters have", weights, "bytes")
    flops = 0
    for node in graph.nodes:
        cost = node_cost(graph, node)
        flops += cost.flops
        title = f"Node {node.index} '{node.name}' ({node.op_type})"
        if flops > limits.FLOPS:
            raise _over("FLOPS", f"{title} brings the graph to", flops, "operations", node)
        if (size := cost.read_bytes + cost.written_bytes) > limits.NODE_BYTES:
            raise _over("NODE_BYTES", f"{title} works on", size, "bytes", node)


def _over(limit: str, what: str, had: int, unit: str, node: Node | None = None) -> HomespunError:
    allowed = getattr(limits, limit)
    where = {} if node is None else {"node": node.index}
    return HomespunError(
        Code.LIMIT_EXCEEDED,
        f"{what} {had} {unit}; at most {allowed} are accepted. Use fewer samples per microbatch.",
        limit=limit, had=had, allowed=allowed, **where)
