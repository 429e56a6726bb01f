"""A segment as a graph that only infers: no draws, no batch statistics, no updates.

A graph of ours is one for training and evaluation; what a node does differs by mode. ONNX Runtime
knows no mode, so the nodes are written down as what they do in inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ir.cut import segment_graph
from ir.graph import Graph, Node
from ir.operators import OPSET, opset_of
from ir.segment import Segment


def inference_graph(graph: Graph, segment: Segment) -> Graph:
    """The part of a graph that a segment runs, in inference form.

    Follows the lowest opset that has all its operators: newer versions of an operator add types,
    not meaning (`ir.operators.OPSETS`), and a runtime may lack them.
    """
    part = segment_graph(graph, segment)
    used = {*part.outputs, *(name for node in part.nodes for name in node.inputs)}
    masks = {name: np.ones(part.types[name].shape, np.bool_)  # nothing is dropped
             for node in part.nodes if node.op_type == "Dropout"
             for name in used.intersection(node.outputs[1:])}
    return replace(
        part, nodes=tuple(form for node in part.nodes for form in inference_form(node, used)),
        opset=max((opset_of(node) for node in part.nodes), default=OPSET),
        constants={**part.constants, **masks}, updates={})


def inference_form(node: Node, used: set[str]) -> Iterator[Node]:
    """What a node does in inference, as one or more nodes.

    Args:
        node: any node.
        used: values that a node reads or the graph gives; others need not be computed.
    """
    if node.op_type == "Dropout":
        yield replace(node, op_type="Identity", inputs=node.inputs[:1],
                      outputs=node.outputs[:1], attributes={})
    elif node.op_type == "BatchNormalization":
        attributes = {
            name: value for name, value in node.attributes.items() if name != "training_mode"}
        yield replace(node, outputs=node.outputs[:1], attributes=attributes)
        for stored, running in zip(node.inputs[3:], node.outputs[1:], strict=False):
            if running in used:
                yield Node(node.index, f"{node.name}/{running}", "Identity", (stored,), (running,))
    elif node.op_type == "Split" and len(node.inputs) == 1 and "num_outputs" not in node.attributes:
        # Ours may leave it out: as many equal parts as there are outputs.
        yield replace(
            node, attributes={**node.attributes, "num_outputs": len(node.outputs)})
    else:
        yield node
