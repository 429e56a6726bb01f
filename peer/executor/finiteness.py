"""Which values of a training, and which gradients, must be finite if everything is right.

A NaN that arrives has to be somebody's fault, but an infinity may be the model's intention: a mask
adds -inf to what a softmax reads, and `Sqrt` has an infinite slope at the 0 that a `Relu` gave it.
What may be so, in a graph that trains well, is left unchecked. Everybody who has the graph comes to
the same answer: what a receiver would refuse, a correct sender has found before.

An infinity is meant if it has both a *source* and something that *ends* it, with only *passing*
operators between: through a matrix product it would spread to everything, NaNs included. Whatever
slips through in the wrong place meets the gradients' norms before it can reach a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ir.graph import FLOATS, Graph, Node
from peer.executor.base import Array

_PASSING = frozenset({
    "Add", "Cast", "CastLike", "Clip", "Concat", "Div", "Dropout", "Expand", "Flatten", "Gather",
    "GatherElements", "GatherND", "Identity", "LeakyRelu", "LogSoftmax", "Max", "Mean", "Min",
    "Mul", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Resize", "ScatterElements",
    "ScatterND", "Slice", "Split", "Squeeze", "Sub", "Sum", "Tile", "Transpose", "Trilu",
    "Unsqueeze", "Where"})
"""Results may have an input's infinities, each in few places."""
_GUARDS = frozenset({"Clip", "Max", "Min", "Where"})
"""The model itself guards against what comes in; no gradient goes back to what is not chosen."""
_SOFTENERS = frozenset({
    "ArgMax", "ArgMin", "Atan", "Attention", "Celu", "Elu", "Erf", "Exp", "Gather",
    "GatherElements", "GatherND", "GlobalMaxPool", "HardSigmoid", "Hardmax", "LogSoftmax",
    "MaxPool", "NegativeLogLikelihoodLoss", "ReduceLogSumExp", "ReduceMax", "ReduceMin", "Relu",
    "Selu", "Sigmoid", "Softmax", "SoftmaxCrossEntropyLoss", "Softplus", "Softsign", "Tanh",
    "TopK"})
"""Finite results from infinite inputs, gradients too."""
_CLOSERS = _GUARDS | {"Relu"}
"""Operators that give no gradient back where they are shut, whatever came."""
_POLES = frozenset({"Div", "Log", "Reciprocal", "Tan"})
"""Infinite results of finite inputs."""
_STEEP = _POLES | {"Acos", "Acosh", "Asin", "Atanh", "Pow", "ReduceL2", "Sqrt"}
"""Infinite slopes at finite inputs."""
_HUGE = 0.25
"""A constant beyond this share of its dtype's largest number stands for an infinity."""


@dataclass(frozen=True, slots=True)
class Finite:
    """What must be finite, by value: the value itself, or its gradient."""

    values: frozenset[str]
    gradients: frozenset[str]


def must_be_finite(
    graph: Graph, trainable: frozenset[str], differentiable: frozenset[str]
) -> Finite:
    """Tell what must be finite in a training that goes well.

    Args:
        graph: the whole graph.
        trainable: names of its parameters that the optimizer updates.
        differentiable: values with a gradient; of others nothing is asked. So nothing is of
            inference, where an infinity may be the very result.

    Cost: O(nodes + edges + elements of constants).
    """
    nodes = graph.nodes
    tame = _tame_nodes(graph)
    closed = _outputs(nodes, _CLOSERS)
    steep = _inputs((node for node in nodes if node.index not in tame), _STEEP)
    poles = _outputs((node for node in nodes if node.index not in tame), _POLES)
    infinite = _ahead(graph, _sources(graph, trainable) | poles)
    softened = infinite & _behind(graph, _inputs(nodes, _SOFTENERS))
    guarded = _behind(graph, _inputs(nodes, _GUARDS))
    dropped = _ahead(graph, closed) & _behind(graph, steep)
    return Finite(differentiable - softened - guarded, differentiable - dropped)


def _sources(graph: Graph, trainable: frozenset[str]) -> set[str]:
    """Values that may be infinite of themselves: a frozen parameter may be a mask."""
    found = {name for name, array in graph.constants.items() if _is_huge(array)}
    found |= {name for name in graph.parameters
              if name not in trainable and graph.types[name].dtype in FLOATS}
    for node in graph.nodes:
        arrays = [a for a in node.attributes.values() if isinstance(a, np.ndarray)]
        if any(_is_huge(array) for array in arrays):
            found.update(node.outputs)
    return found


def _is_huge(array: Array) -> bool:
    if array.dtype.name not in FLOATS:
        return False
    limit = _HUGE * float(ml_dtypes.finfo(array.dtype).max)
    return bool((~(np.abs(array.astype(np.float64)) < limit)).any())


def _tame_nodes(graph: Graph) -> set[int]:
    """Indices of the nodes that constants keep away from where they are infinite or steep."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    found = set()
    for node in graph.nodes:
        if node.op_type == "Pow":
            exponent = graph.constants.get(node.inputs[1])
            is_tame = exponent is not None and bool((exponent >= 1).all())
        else:
            is_tame = node.op_type in ("Div", "Log", "Reciprocal", "Sqrt") and _is_away_from_zero(
                graph, producers, node.inputs[-1])
        if is_tame:
            found.add(node.index)
    return found


def _is_away_from_zero(graph: Graph, producers: Mapping[str, Node], name: str) -> bool:
    """Whether a value has a constant added to it, as norms do before they divide."""
    while True:
        if name in graph.constants:
            return bool((graph.constants[name] != 0).all())
        node = producers.get(name)
        if node is None:
            return False
        if node.op_type == "Add":
            return any(input_ in graph.constants and bool((graph.constants[input_] > 0).all())
                       for input_ in node.inputs)
        if node.op_type not in ("Sqrt", "Cast", "Expand", "Reshape", "Unsqueeze"):
            return node.op_type == "Exp"
        name = node.inputs[0]


def _outputs(nodes: Iterable[Node], kinds: frozenset[str]) -> set[str]:
    return {name for node in nodes if node.op_type in kinds for name in node.outputs}


def _inputs(nodes: Iterable[Node], kinds: frozenset[str]) -> set[str]:
    return {name for node in nodes if node.op_type in kinds for name in node.inputs}


def _ahead(graph: Graph, names: set[str]) -> set[str]:
    """The values, and what passing operators make of them."""
    found = set(names)
    for node in graph.nodes:
        if node.op_type in _PASSING and not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


def _behind(graph: Graph, names: set[str]) -> set[str]:
    """The values, and what passing operators make them of."""
    found = set(names)
    for node in reversed(graph.nodes):
        if node.op_type in _PASSING and not found.isdisjoint(node.outputs):
            found.update(node.inputs)
    return found
