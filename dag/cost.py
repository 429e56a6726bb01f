"""What a segment costs on a peer: seconds from measured rates, bytes of device memory.

A node's time is the larger of its operations over the peer's rate for its class and dtype and its
bytes over the peer's memory bandwidth, plus what starting it takes, times what real tasks have
taught about this kind of work. Memory is weights, gradients, optimizer
state, the activations of the microbatches in flight, boundary buffers and the largest node's
working set. Inference has only forward times, weights, buffers and the values that live at
once. Counts are exact (integers); seconds are floats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from dag.cluster import (
    BACKWARD,
    DEFAULT_BANDWIDTH_BYTES_PER_S,
    DEFAULT_LATENCY_S,
    FORWARD,
    Cluster,
    Link,
    PeerRates,
)
from dag.job import OptimizerSpec, TrainingSpec
from dag.schedule import DEFERRED_MICROBATCHES_MAX
from ir.cost import VIEWS, NodeCost, backward_cost, node_cost
from ir.cut import replicable
from ir.gradient import differentiable_values, gives_gradient
from ir.graph import INFER, TRAIN, Graph, Node
from ir.memory import deferred_bytes, footprint, saved_bytes
from ir.operators import OpClass
from ir.segment import BoundaryKind, BoundaryTensor, Segment

TASK_OVERHEAD_S = 0.65e-3
"""A task's way from the daemon into its executor process and back, which nothing else overlaps."""
HANDOVER_BYTES_PER_S = 6e8
"""How fast tensors pass between the two, hashing included. Both as `benchmarks/handover.py`
measured them: the quickest tenth of the runs on a 2-core virtual machine."""
NORM_BYTES_MAX = 2**19
"""The piece of a gradient that an executor measures at a time, in float64."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class GraphCosts:
    """Everything about a graph that no placement changes.

    Attributes:
        graph: the graph.
        kind: `TRAIN` or `INFER`.
        trainable: parameters that the optimizer updates.
        differentiable: values that have a gradient.
        replicable: nodes that every segment may run for itself.
        forward: cost of each node forward.
        backward: cost of each node backward.
        saved: bytes that each node keeps between forward and backward, per microbatch.
        deferred: bytes that each node's weight gradient holds while it waits, per microbatch.
        workspace: bytes that are alive only while each node runs.
        readers: parameter -> indices of the nodes that read it, ascending.
        adding: parameter -> indices of the nodes that add to its gradient; none for frozen ones.
    """

    graph: Graph
    kind: str
    trainable: frozenset[str]
    differentiable: frozenset[str]
    replicable: frozenset[int]
    forward: tuple[NodeCost, ...]
    backward: tuple[NodeCost, ...]
    saved: tuple[int, ...]
    deferred: tuple[int, ...]
    workspace: tuple[int, ...]
    readers: dict[str, tuple[int, ...]]
    adding: dict[str, tuple[int, ...]]


def graph_costs(graph: Graph, trainable: frozenset[str], kind: str = TRAIN) -> GraphCosts:
    """Count once what every candidate plan needs.

    Args:
        graph: the graph.
        trainable: parameters that the optimizer updates; none for inference, which then has no
            gradient, no optimizer state and keeps no activation.
        kind: `TRAIN` or `INFER`.

    Cost: O(nodes + edges).
    """
    differentiable = differentiable_values(graph, trainable)
    readers: dict[str, list[int]] = {name: [] for name in graph.parameters}
    adding: dict[str, list[int]] = {name: [] for name in graph.parameters}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            if name in readers:
                readers[name].append(node.index)
                if gives_gradient(graph, node, name, differentiable):
                    adding[name].append(node.index)
    forward = tuple(node_cost(graph, node) for node in graph.nodes)
    backward = tuple(backward_cost(graph, node, differentiable) for node in graph.nodes)
    return GraphCosts(
        graph=graph,
        kind=kind,
        trainable=trainable,
        differentiable=differentiable,
        replicable=replicable(graph),
        forward=forward,
        backward=backward,
        saved=saved_bytes(graph, differentiable),
        deferred=deferred_bytes(graph, differentiable),
        workspace=_live_bytes(graph) if kind == INFER else _gradient_bytes(forward, backward),
        readers={name: tuple(nodes) for name, nodes in readers.items()},
        adding={name: tuple(nodes) for name, nodes in adding.items()},
    )


def _gradient_bytes(
    forward: tuple[NodeCost, ...], backward: tuple[NodeCost, ...]
) -> tuple[int, ...]:
    """While one node is differentiated: its output, that one's gradient, its input gradients."""
    return tuple(
        2 * there.written_bytes + back.written_bytes
        for there, back in zip(forward, backward, strict=True))


def _live_bytes(graph: Graph) -> tuple[int, ...]:
    """Bytes of the values that are alive while each node runs forward, its own included.

    A value dies with its last reader, a graph output with the microbatch. Counted on the whole
    graph, so of a segment it is at most too much by what passes the segment by.
    """
    last = {name: node.index for node in graph.nodes for name in node.inputs}
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    change = [0] * (len(graph.nodes) + 2)
    for node in graph.nodes:
        for name in filter(None, node.outputs):
            change[node.index] += graph.types[name].size_bytes
            change[last.get(name, node.index) + 1] -= graph.types[name].size_bytes
    return tuple(accumulate(change))[:len(graph.nodes)]


def node_seconds(
    costs: GraphCosts, rates: PeerRates, recompute: bool, precision: str = "float32"
) -> FloatArray:
    """Time of every node on a peer: shape [2, nodes], forward and backward, seconds.

    Args:
        costs: the graph.
        rates: of the peer.
        recompute: whether backward runs the forward again.
        precision: of the job, as in `TrainingSpec`.
    """
    graph = costs.graph
    kinds = [
        (cost.op_class, _operand_dtype(graph, node))
        for node, cost in zip(graph.nodes, costs.forward, strict=True)]
    prices = {kind: _Price.of(rates, *kind, precision) for kind in dict.fromkeys(kinds)}
    forward = np.array([
        prices[kind].seconds(cost, 0) for kind, cost in zip(kinds, costs.forward, strict=True)])
    backward = np.array([
        prices[kind].seconds(cost, 1) for kind, cost in zip(kinds, costs.backward, strict=True)])
    for index in _views(costs):
        # A view moves nothing, but an executor that runs node by node has to make it.
        price = prices[kinds[index]]
        forward[index] = price.view_seconds(0)
        if any(name in costs.differentiable for name in graph.nodes[index].outputs):
            backward[index] = price.view_seconds(1)
    if recompute:
        backward = backward + forward
    return np.stack([forward, backward])


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSeconds:
    """Predicted time of one kind of work in one microbatch.

    Attributes:
        direction: `FORWARD` or `BACKWARD`.
        op_class: which nodes.
        seconds: by the measured rates alone, >= 0.
    """

    direction: str
    op_class: OpClass
    seconds: float


def work_seconds(
    costs: GraphCosts, segment: Segment, rates: PeerRates, training: TrainingSpec
) -> tuple[WorkSeconds, ...]:
    """A segment's time by kind of work, as the rates say it without corrections."""
    plain = replace(rates, corrections=())
    seconds = node_seconds(costs, plain, training.recompute, training.precision)
    sums: dict[tuple[str, OpClass], float] = {}
    for row, direction in enumerate((FORWARD, BACKWARD)):
        for index in segment.nodes:
            kind = (direction, costs.forward[index].op_class)
            sums[kind] = sums.get(kind, 0.0) + float(seconds[row, index])
    return tuple(
        WorkSeconds(direction=direction, op_class=op_class, seconds=total)
        for (direction, op_class), total in sums.items() if total > 0)


def segment_seconds(segment: Segment, seconds: FloatArray) -> tuple[float, float]:
    """Time of one microbatch forward and backward.

    Args:
        segment: which nodes.
        seconds: `node_seconds` of the segment's peer.
    """
    total = seconds[:, list(segment.nodes)].sum(axis=1)
    return float(total[0]), float(total[1])


def deferred_seconds(
    costs: GraphCosts, segment: Segment, seconds: FloatArray, recompute: bool
) -> float:
    """The part of a microbatch's backward that an executor may leave for later.

    That is, the weight gradients of the products that `ir.memory.deferred_bytes` names; each takes
    as many operations as the product itself.

    Args:
        costs: the graph.
        segment: one whose gradient another segment waits for.
        seconds: `node_seconds` of the segment's peer.
        recompute: as given to `node_seconds`.
    """
    total = 0.0
    for index in segment.nodes:
        if costs.deferred[index]:
            forward, backward = costs.forward[index].flops, costs.backward[index].flops
            done = backward + (forward if recompute else 0)
            total += float(seconds[1, index]) * min(1.0, forward / max(1, done))
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentMemory:
    """Device memory of a segment, in bytes.

    Attributes:
        weights: own and foreign parameters, and the graph's constants that its nodes read.
        gradients: one sum per consumer node, own and foreign parameters.
        optimizer: state of the own trainable parameters.
        per_microbatch: held for each microbatch in flight.
        buffers: boundary tensors on their way.
        workspace: what the worst moment of forward or backward takes beyond what is kept (with
            `recompute`, all that is kept included).
        deferred: operands of weight gradients that wait while other microbatches flow.
    """

    weights: int
    gradients: int
    optimizer: int
    per_microbatch: int
    buffers: int
    workspace: int
    deferred: int

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the microbatches in flight."""
        return (
            self.weights + self.gradients + self.optimizer + self.buffers + self.workspace
            + self.deferred)

    def total(self, in_flight: int) -> int:
        """Peak bytes with so many microbatches in flight."""
        return self.fixed + in_flight * self.per_microbatch


def segment_memory(
    costs: GraphCosts, segment: Segment, training: TrainingSpec
) -> SegmentMemory:
    """Peak device memory of a segment."""
    types = costs.graph.types
    nodes = frozenset(segment.nodes)
    foreign = [t.value for t in segment.incoming if t.kind is BoundaryKind.PARAMETER]
    used = (*segment.parameters, *foreign)
    own_trainable = [name for name in segment.parameters if name in costs.trainable]
    data = sum(types[name].size_bytes for name in segment.data_inputs)
    arriving = activation_bytes(segment.incoming)
    leaving = activation_bytes(segment.outgoing)
    one = footprint(costs.graph, segment.nodes, _results(costs, segment),
                    costs.differentiable)
    kept = 0 if training.recompute or costs.kind == INFER else one.kept
    norm = max((_norm_bytes(types[name].size_bytes) for name in own_trainable), default=0)
    peak = one.inference if costs.kind == INFER else max(one.forward, one.backward, norm)
    constants = {name for index in segment.nodes for name in costs.graph.nodes[index].inputs}
    return SegmentMemory(
        weights=sum(weight_bytes(types[name].size_bytes, training) for name in used) + sum(
            array.nbytes for name, array in costs.graph.constants.items() if name in constants),
        gradients=sum(
            types[name].size_bytes * len(nodes.intersection(costs.adding[name])) for name in used),
        optimizer=sum(
            optimizer_bytes(types[name].size_bytes, training.optimizer) for name in own_trainable),
        per_microbatch=arriving + data + kept,
        buffers=arriving + 2 * leaving,
        workspace=peak - kept,
        deferred=DEFERRED_MICROBATCHES_MAX * one.deferred if is_awaited(segment) else 0,
    )


def is_awaited(segment: Segment) -> bool:
    """Whether another segment waits for a gradient of this one."""
    return any(t.differentiable for t in segment.incoming if t.kind is BoundaryKind.ACTIVATION)


def _norm_bytes(size_bytes: int) -> int:
    """Bytes taken while one gradient is measured, in float64 and in pieces."""
    return min(2 * size_bytes, NORM_BYTES_MAX)


def _results(costs: GraphCosts, segment: Segment) -> tuple[str, ...]:
    """Values that outlive the segment's forward."""
    leaving = [t.value for t in segment.outgoing if t.kind is BoundaryKind.ACTIVATION]
    outputs = costs.graph.outputs if costs.kind == INFER else costs.graph.outputs[:1]
    made = {name for index in segment.nodes for name in costs.graph.nodes[index].outputs}
    return (*(name for name in outputs if name in made), *leaving)


def weight_bytes(size_bytes: int, training: TrainingSpec) -> int:
    """Bytes of a parameter's value; autocast keeps a half-size copy besides."""
    return size_bytes + (size_bytes // 2 if training.precision == "bfloat16" else 0)


def optimizer_bytes(size_bytes: int, optimizer: OptimizerSpec) -> int:
    """Bytes of optimizer state for a trainable parameter of `size_bytes`.

    Adam and AdamW keep two moments (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), SGD keeps one
    buffer if it has momentum.
    """
    if optimizer.kind in ("adam", "adamw"):
        return 2 * size_bytes
    return size_bytes if optimizer.momentum else 0


def activation_bytes(tensors: Iterable[BoundaryTensor]) -> int:
    """Bytes of the boundary tensors that travel per microbatch."""
    return sum(t.type.size_bytes for t in tensors if t.kind is BoundaryKind.ACTIVATION)


def gradient_bytes(tensors: Iterable[BoundaryTensor]) -> int:
    """Bytes of the gradients that come back for boundary tensors, per microbatch."""
    return sum(
        t.type.size_bytes * t.contributions for t in tensors
        if t.kind is BoundaryKind.ACTIVATION and t.differentiable)


def update_seconds(memory: SegmentMemory, rates: PeerRates) -> float:
    """Time of the optimizer's update: it reads and writes weights and state, reads gradients."""
    moved = 2 * memory.weights + 2 * memory.gradients + 2 * memory.optimizer
    return moved / rates.memory_bytes_per_s


class Links:
    """The link of every ordered pair of peers; unmeasured pairs get the default."""

    def __init__(self, cluster: Cluster) -> None:
        self._links = {(link.source, link.target): link for link in cluster.links}
        self._up: dict[str, float] = {}
        self._down: dict[str, float] = {}
        for link in cluster.links:
            rate = link.bandwidth_bytes_per_s
            self._up[link.source] = max(rate, self._up.get(link.source, 0.0))
            self._down[link.target] = max(rate, self._down.get(link.target, 0.0))

    def between(self, source: str, target: str) -> Link:
        """The measured or assumed link from one peer to another."""
        return self._links.get((source, target)) or Link(
            source=source, target=target, latency_s=DEFAULT_LATENCY_S,
            bandwidth_bytes_per_s=DEFAULT_BANDWIDTH_BYTES_PER_S)

    def lines_seconds(self, link: Link, size_bytes: int) -> tuple[float, float]:
        """How long a transfer keeps others from its sender's uplink and its receiver's downlink.

        A peer's line is as fast as the fastest link over it. At most as long as the transfer.
        """
        rate = link.bandwidth_bytes_per_s
        return (size_bytes / max(rate, self._up.get(link.source, 0.0)),
                size_bytes / max(rate, self._down.get(link.target, 0.0)))


def link_seconds(link: Link, size_bytes: int) -> float:
    """Time until `size_bytes` have arrived over an idle link."""
    return link.latency_s + size_bytes / link.bandwidth_bytes_per_s


def _views(costs: GraphCosts) -> list[int]:
    return [
        node.index for node, cost in zip(costs.graph.nodes, costs.forward, strict=True)
        if node.op_type in VIEWS and cost.op_class is not OpClass.HOST]


def _operand_dtype(graph: Graph, node: Node) -> str:
    """The dtype that decides a node's speed: that of its first operand."""
    return graph.types[node.inputs[0]].dtype if node.inputs and node.inputs[0] else "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Price:
    """What one kind of node costs on one peer.

    Attributes:
        flops_per_s: of its class and dtype.
        moved_share: bytes that the work itself moves, over those of the graph's dtypes.
        rounding: bytes that rounding operands and widening results moves, likewise.
        bytes_per_s: memory bandwidth.
        overheads_s: of starting it, forward and backward.
        factors: corrections, forward and backward.
        is_asynchronous: whether starting hides behind work.
    """

    flops_per_s: float
    moved_share: float
    rounding: float
    bytes_per_s: float
    overheads_s: tuple[float, float]
    factors: tuple[float, float]
    is_asynchronous: bool

    @classmethod
    def of(cls, rates: PeerRates, op_class: OpClass, dtype: str, precision: str) -> _Price:
        """In a job of lower precision, dense work rounds its float32 operands first."""
        is_rounded = precision != dtype == "float32" and op_class in _DENSE
        return cls(
            flops_per_s=rates.flops_per_s(op_class, precision if is_rounded else dtype),
            # Rounding reads four bytes and writes two; widening reads two and writes four.
            moved_share=0.5 if is_rounded else 1.0, rounding=1.5 if is_rounded else 0.0,
            bytes_per_s=rates.memory_bytes_per_s,
            overheads_s=(rates.forward_overhead_s, rates.backward_overhead_s),
            factors=(rates.correction(FORWARD, op_class), rates.correction(BACKWARD, op_class)),
            is_asynchronous=rates.is_asynchronous)

    def seconds(self, cost: NodeCost, direction: int) -> float:
        """Time of one node, 0 forward or 1 backward."""
        moved_s = (cost.read_bytes + cost.written_bytes) / self.bytes_per_s
        if cost.op_class is OpClass.HOST or (moved_s == 0.0 and cost.flops == 0):
            return 0.0
        work_s = self.rounding * moved_s + max(
            self.moved_share * moved_s, cost.flops / self.flops_per_s)
        start_s = self.overheads_s[direction]
        taken_s = max(start_s, work_s) if self.is_asynchronous else start_s + work_s
        return self.factors[direction] * taken_s

    def view_seconds(self, direction: int) -> float:
        """Time of a node that only looks at its operand in another way."""
        hidden = self.is_asynchronous
        return 0.0 if hidden else self.factors[direction] * self.overheads_s[direction]


_DENSE = frozenset({OpClass.MATMUL, OpClass.ATTENTION, OpClass.CONVOLUTION})
