"""Memory of a segment: what one microbatch holds between forward and backward, and at its worst.

Counts follow liveness on the flat list of nodes: a value's memory lives from the node that makes it
to the last node that reads it, views share the memory of what they view, and backward needs what
each derivative reads. Weights, gradients of parameters and optimizer state are the planner's
(`dag.cost`): they do not depend on the microbatch. Counts are for an executor that runs node by
node and frees early, as ours does; one that compiles needs no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ir.cost import VIEWS
from ir.gradient import gradient_inputs
from ir.graph import FLOATS, Graph, Node, TensorType

_STRIDED = frozenset({"Transpose", "Expand", "Slice", "Split"})
"""Views whose elements do not lie in row-major order: a node that computes copies them first."""

_FULL_GRADIENT = frozenset({"Slice", "Split", "Expand", "Transpose"})
"""Views whose gradient is a tensor of its own; those of the others are views again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes that one microbatch takes in a segment, beside weights, gradients and optimizer state.

    Attributes:
        kept: between forward and backward.
        forward: at the worst moment of a forward that keeps what backward needs.
        backward: at the worst moment of backward, `kept` included.
        inference: at the worst moment of a forward that keeps nothing.
        deferred: what weight gradients hold that are left for later (docs/adr/0013).
    """

    kept: int
    forward: int
    backward: int
    inference: int
    deferred: int


def footprint(
    graph: Graph, nodes: Sequence[int], results: Iterable[str], differentiable: frozenset[str]
) -> Footprint:
    """Follow one microbatch through a segment.

    Args:
        graph: the whole graph.
        nodes: indices of the segment's nodes, ascending.
        results: values that outlive the forward: the loss, graph outputs, leaving activations.
        differentiable: the result of `ir.gradient.differentiable_values`; empty for inference.

    Cost: O(nodes + edges).
    """
    segment = _Liveness(graph, [graph.nodes[index] for index in nodes], results, differentiable)
    forward, kept = segment.forward(keeps=True)
    return Footprint(
        kept=kept, forward=forward, backward=segment.backward(kept),
        inference=segment.forward(keeps=False)[0], deferred=segment.deferred_bytes())


def saved_bytes(graph: Graph, differentiable: frozenset[str]) -> tuple[int, ...]:
    """Bytes that stay in memory between forward and backward, per node of `graph.nodes`.

    A tensor that several nodes keep is charged once, to the node that produced its memory, plus
    what a node keeps for itself (masks, statistics, copies). Parameters, constants and graph inputs
    are not charged: they are there anyway. The sum over a segment's nodes is what one microbatch in
    flight holds, without the activations that arrived from other segments (add the
    `type.size_bytes` of its incoming boundary tensors).

    Cost: O(nodes + edges).
    """
    layout = _Layout.of(graph, graph.nodes)
    position = {
        name: place for place, node in enumerate(graph.nodes) for name in node.outputs if name}
    kept: set[str] = set()
    charged = [0] * len(graph.nodes)
    for place, node in enumerate(graph.nodes):
        if not any(name in differentiable for name in node.outputs):
            continue
        for name in kept_values(graph, node, differentiable):
            if layout.is_copied(node, name):
                charged[place] += graph.types[name].size_bytes
            else:
                kept.add(layout.storage(name))
        charged[place] += kept_extra(graph, node)
    for name in kept:
        if name in position:
            charged[position[name]] += graph.types[name].size_bytes
    return tuple(charged)


def deferred_bytes(graph: Graph, differentiable: frozenset[str]) -> tuple[int, ...]:
    """Bytes that weight gradients left for later hold, per node of `graph.nodes`.

    They hold the product's gradient and its left operand, which is charged to the first product
    that reads it (docs/adr/0013-weight-gradients-later.md).

    Cost: O(nodes + edges).
    """
    whole = _Liveness(graph, graph.nodes, (), differentiable)
    seen: set[str] = set()
    charged = []
    for node in graph.nodes:
        size = 0
        if whole.is_deferred(node):
            size = graph.types[node.outputs[0]].size_bytes
            rows = whole.layout.storage(node.inputs[0])
            if rows not in seen and rows in whole.made:
                size += graph.types[rows].size_bytes
            seen.add(rows)
        charged.append(size)
    return tuple(charged)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which values share memory, and which do not lie in row-major order.

    Attributes:
        views: view -> the value whose memory it shares.
        strided: values that are not row-major.
        swapped: of those, the ones whose last two axes alone are swapped.
    """

    graph: Graph
    views: Mapping[str, str]
    strided: frozenset[str]
    swapped: frozenset[str]

    @classmethod
    def of(cls, graph: Graph, nodes: Iterable[Node]) -> _Layout:
        views: dict[str, str] = {}
        strided: set[str] = set()
        swapped: set[str] = set()
        for node in nodes:
            if node.op_type not in VIEWS or not node.inputs:
                continue
            source = node.inputs[0]
            if node.op_type in ("Reshape", "Flatten") and source in strided:
                continue
            for name in node.outputs:
                views[name] = views.get(source, source)
                if node.op_type in _STRIDED or source in strided:
                    strided.add(name)
                if source not in strided and _swaps(graph, node):
                    swapped.add(name)
        return cls(graph, views, frozenset(strided), frozenset(swapped))

    def storage(self, name: str) -> str:
        """The value whose memory a value shares: itself, if it is no view."""
        return self.views.get(name, name)

    def is_copied(self, node: Node, name: str) -> bool:
        """Whether a node reads a row-major copy of its input instead of the input."""
        if name not in self.strided or node.op_type in VIEWS:
            return False
        return not (node.op_type in ("MatMul", "Gemm") and name in self.swapped)


def _swaps(graph: Graph, node: Node) -> bool:
    if node.op_type != "Transpose":
        return False
    rank = len(graph.types[node.inputs[0]].shape)
    order = node.attributes.get("perm", tuple(reversed(range(rank))))
    return rank >= 2 and order == (*range(rank - 2), rank - 1, rank - 2)


class _Liveness:
    """One segment's nodes, with what lives when.

    Attributes:
        layout: which values share memory.
        made: values that the segment's nodes make.
    """

    def __init__(
        self, graph: Graph, nodes: Sequence[Node], results: Iterable[str],
        differentiable: frozenset[str],
    ) -> None:
        self._graph, self._nodes, self._differentiable = graph, nodes, differentiable
        self.layout = _Layout.of(graph, nodes)
        self.made = {name for node in nodes for name in node.outputs if name}
        self._lasting = {self.layout.storage(name) for name in results}
        self._last = self._last_reads()
        self._keepers = self._first_keepers()
        self._parameters = frozenset(graph.parameters)

    def _is_live(self, node: Node) -> bool:
        """Whether backward runs through a node."""
        return any(name in self._differentiable for name in node.outputs)

    def _size(self, name: str) -> int:
        return self._graph.types[name].size_bytes

    def _last_reads(self) -> dict[str, int]:
        """Storage -> place of the last node that reads it, or of its producer."""
        last: dict[str, int] = {}
        for place, node in enumerate(self._nodes):
            for name in (*node.inputs, *node.outputs):
                if name:
                    last[self.layout.storage(name)] = place
        return last

    def _first_keepers(self) -> dict[str, int]:
        """Storage -> place of the first node whose derivative reads it: backward ends there."""
        keepers: dict[str, int] = {}
        for place, node in enumerate(self._nodes):
            if self._is_live(node):
                for name in kept_values(self._graph, node, self._differentiable):
                    if not self.layout.is_copied(node, name):
                        keepers.setdefault(self.layout.storage(name), place)
        return keepers

    def _own_kept(self, node: Node) -> int:
        """Bytes that a node keeps for itself: copies of strided inputs, statistics, masks."""
        if not self._is_live(node):
            return 0
        return kept_extra(self._graph, node) + sum(
            self._size(name) for name in kept_values(self._graph, node, self._differentiable)
            if self.layout.is_copied(node, name))

    def forward(self, *, keeps: bool) -> tuple[int, int]:
        """Most bytes at a time, and bytes that are left at the end. Inputs are the caller's."""
        alive = peak = 0
        held: set[str] = set()
        for place, node in enumerate(self._nodes):
            copies = sum(self._size(name) for name in dict.fromkeys(node.inputs)
                         if name and self.layout.is_copied(node, name))
            for name in node.outputs:
                if name and self.layout.storage(name) == name:
                    held.add(name)
                    alive += self._size(name)
            peak = max(peak, alive + copies + _workspace(self._graph, node))
            alive += self._own_kept(node) if keeps else 0
            for name in {self.layout.storage(name) for name in (*node.inputs, *node.outputs)}:
                is_kept = name in self._lasting or (keeps and name in self._keepers)
                if name in held and self._last[name] == place and not is_kept:
                    held.discard(name)
                    alive -= self._size(name)
        return max(peak, alive), alive

    def backward(self, kept: int) -> int:
        """Most bytes at a time while gradients flow from the last node to the first."""
        alive, deferred = kept, 0
        pending = {name: self._size(name) for name in self._lasting
                   if name in self._differentiable and name in self.made}
        alive += sum(pending.values())
        peak = alive
        freed_at = self._freed_at()
        for place in range(len(self._nodes) - 1, -1, -1):
            node = self._nodes[place]
            if not self._is_live(node):
                continue
            arriving = {n: pending.pop(n) for n in node.outputs if n in pending}
            new = self._input_gradients(node)
            peak = max(peak, alive + sum(new.values()) + _workspace(self._graph, node))
            alive += self._take(new, pending, arriving, node)
            alive -= self._own_kept(node)
            if self.is_deferred(node):
                deferred += freed_at[place]
            else:
                alive -= freed_at[place]
        return max(peak, alive)

    def _freed_at(self) -> list[int]:
        """Bytes of kept values that end with each place's backward, [nodes]."""
        freed = [0] * len(self._nodes)
        for name, first in self._keepers.items():
            if name in self.made and name not in self._lasting:
                freed[first] += self._size(name)
        return freed

    def _take(
        self, new: Mapping[str, int], pending: dict[str, int], arriving: Mapping[str, int],
        node: Node,
    ) -> int:
        """Change of live bytes when a node's gradients have been added to those that wait."""
        change = 0
        for name, size in new.items():
            if name in self.made and name not in pending:
                pending[name] = size
                change += size
        is_view = node.op_type in VIEWS and node.op_type not in _FULL_GRADIENT
        if is_view:
            for name in node.inputs[:1]:
                if name in self.made and name not in pending and arriving:
                    pending[name] = sum(arriving.values())
                    return change
        if not self.is_deferred(node):
            change -= sum(arriving.values())
        return change

    def _input_gradients(self, node: Node) -> dict[str, int]:
        """Gradients that a node's derivative makes: name -> bytes."""
        if node.op_type in VIEWS and node.op_type not in _FULL_GRADIENT:
            return {}
        return {name: self._size(name) for name in gradient_inputs(self._graph, node)
                if name in self._differentiable and not (
                    self.is_deferred(node) and self._is_weight(name))}

    def _is_weight(self, name: str) -> bool:
        return self.layout.storage(name) in self._parameters

    def is_deferred(self, node: Node) -> bool:
        """Whether a node's weight gradient is left for later."""
        return node.op_type in ("MatMul", "Gemm") and self._is_live(node) and any(
            name in self._differentiable and self._is_weight(name) for name in node.inputs[1:2])

    def deferred_bytes(self) -> int:
        """Operands of the weight gradients that are left for later."""
        rows = {self.layout.storage(node.inputs[0]) for node in self._nodes
                if self.is_deferred(node)}
        gradients = sum(self._size(node.outputs[0]) for node in self._nodes
                        if self.is_deferred(node))
        return gradients + sum(self._size(name) for name in rows if name in self.made)


_DECONVOLUTION_BYTES = 36 * 2**10
"""Scratch of one transposed convolution, whatever its size (measured: oneDNN in torch 2.13)."""


def _workspace(graph: Graph, node: Node) -> int:
    """Bytes that a kernel takes while it runs: convolutions bring operands into another layout."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return 0
    weight = graph.types[node.inputs[1]].size_bytes
    if node.op_type == "Conv":
        return weight
    return weight + graph.types[node.inputs[0]].size_bytes + _DECONVOLUTION_BYTES


# --- what backward needs -------------------------------------------------------------------------

_KEEPS_NOTHING = frozenset({
    "Add", "Sub", "Neg", "Sum", "Mean", "Concat", "Pad", "Tile", "Cast", "CastLike", "ReduceSum",
    "ReduceMean", "CumSum", "Trilu", "DepthToSpace", "SpaceToDepth", "GlobalAveragePool", "Dropout",
    "Floor", "Ceil", "Round", "Sign", "SoftmaxCrossEntropyLoss", "AveragePool"}) | VIEWS
"""Their derivative needs shapes only, or what `kept_extra` charges."""

_KEEPS_OUTPUT = frozenset({
    "Exp", "Sqrt", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Relu", "Reciprocal", "Tan"})
"""Their derivative is written in terms of the output."""

_KEEPS_INPUTS = frozenset({
    "Abs", "Log", "Sin", "Cos", "Gelu", "Erf", "Clip", "Softplus", "Softsign", "HardSigmoid",
    "HardSwish", "Mish", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "PRelu",
    "LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization",
    "BatchNormalization", "RotaryEmbedding", "MaxPool", "GlobalMaxPool", "Einsum",
    "NegativeLogLikelihoodLoss"})

_KEEPS_OTHER_OPERAND = frozenset({"Mul", "MatMul", "Gemm", "Conv", "ConvTranspose"})
"""Bilinear: an operand is needed only if the other one wants a gradient."""

_KEEPS_INDICES = frozenset({
    "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Where"})
"""Their derivative needs the inputs that are not floats."""


def kept_values(graph: Graph, node: Node, differentiable: frozenset[str]) -> tuple[str, ...]:
    """Values among the node's inputs and outputs that its derivative reads."""
    inputs = tuple(name for name in node.inputs if name)
    op_type = node.op_type
    if op_type in _KEEPS_NOTHING:
        return ()
    if op_type in _KEEPS_OUTPUT:
        return node.outputs[:1]
    if op_type in _KEEPS_INPUTS:
        return inputs
    if op_type in _KEEPS_OTHER_OPERAND:
        left, right = inputs[:2]
        return tuple(
            name for name, other in ((left, right), (right, left)) if other in differentiable)
    if op_type in _KEEPS_INDICES:
        return tuple(name for name in inputs if graph.types[name].dtype not in FLOATS)
    if op_type in ("Div", "Pow"):
        left, right = inputs
        return inputs if right in differentiable or op_type == "Pow" else (right,)
    return (*inputs, *(name for name in node.outputs if name))


def kept_extra(graph: Graph, node: Node) -> int:
    """Bytes that the operator keeps and that are no value of the graph."""
    first = graph.types[node.inputs[0]] if node.inputs and node.inputs[0] else None
    if first is None:
        return 0
    if node.op_type == "Dropout":
        return first.size_bytes
    if node.op_type == "SoftmaxCrossEntropyLoss":
        return first.size_bytes
    if node.op_type == "MaxPool":
        return 8 * graph.types[node.outputs[0]].elements
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        return 8 * _rows(first, node)
    if node.op_type == "Attention":
        return 4 * first.elements // max(1, first.shape[-1]) * _heads(node, first)
    return 0


def _rows(type_: TensorType, node: Node) -> int:
    axis = node.attributes.get("axis", -1)
    assert isinstance(axis, int)
    return prod(type_.shape[:axis])


def _heads(node: Node, query: TensorType) -> int:
    heads = node.attributes.get("q_num_heads", 1)
    assert isinstance(heads, int)
    return heads if len(query.shape) == 3 else 1
