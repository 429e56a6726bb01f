"""Cut a graph into segments: which nodes run where, and which tensors cross between them.

A planner decides which nodes belong together (`parts`); this module works out everything that
follows from that choice: replicated nodes, parameter homes, data columns, boundary tensors and how
their gradients must be summed. Nothing here chooses or estimates; the result is a pure function of
its arguments and the order of `parts`.

Order of gradient sums (docs/adr/0008-bit-identity.md). The gradient of a value with several
consumers is a left fold over the consumers in *descending* node index, whoever runs them. A target
segment may fold its own consumers before sending only if they are the first of that order, that is,
if all of them have larger indices than every other consumer of the value; otherwise it sends one
slice per consumer. The source adds what arrives before it adds its own consumers, so the order is
exact when the source's own consumers have smaller indices than all external ones. Parts that are
contiguous ranges of the topological order guarantee that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from homespun.errors import Code, HomespunError
from ir.gradient import differentiable_values, gives_gradient
from ir.graph import TRAIN, Graph, Node
from ir.operators import OPERATORS
from ir.segment import BoundaryKind, BoundaryTensor, ResultTensor, Segment

Readers = Mapping[str, Mapping[int, tuple[int, ...]]]
"""value -> segment -> indices of the segment's nodes that read the value, ascending."""


def replicable(graph: Graph) -> frozenset[int]:
    """Indices of the nodes that depend on no parameter and no random draw, and update none.

    They depend only on data inputs and constants, so every segment that needs one can run it for
    itself and nothing has to be sent.
    """
    tainted, updating = set(graph.parameters), frozenset(graph.updates.values())
    free = []
    for node in graph.nodes:
        info = OPERATORS.get(node.op_type)
        is_own = (info is not None and info.random) or not updating.isdisjoint(node.outputs)
        if is_own or any(name in tainted for name in node.inputs):
            tainted.update(name for name in node.outputs if name)
        else:
            free.append(node.index)
    return frozenset(free)


def cut(
    graph: Graph, parts: Sequence[Sequence[int]], trainable: frozenset[str], kind: str = TRAIN
) -> tuple[Segment, ...]:
    """Make the segments that `parts` describes.

    Args:
        graph: a whole graph: `nodes[i].index == i`, in topological order.
        parts: for each segment, in segment order, the indices of its nodes. Every node that is not
            `replicable` is in exactly one part. A replicable node may be named or left out: it runs
            in every segment that needs its value, and only there. A graph output that a replicable
            node computes belongs to the last part that names that node, else to the last part: so
            cutting again by the nodes that a placer's segments run gives the same segments.
        trainable: parameters that the optimizer updates; none for inference.
        kind: `TRAIN` or `INFER`: whether the first output is the loss, or a result as all others.

    Returns:
        One segment per part. A parameter's home is the segment that makes its update, else the
        first one that reads it, else segment 0. Edges are numbered activations first, by
        (producer, output, target), then parameters, by (parameter, target).

    Raises:
        HomespunError: INVALID_GRAPH if a node is missing, named twice or unknown, if a segment
            would run nothing, if a tensor would flow to the same or an earlier segment, or if an
            updated parameter is read in another segment than the one that makes its update.

    Cost: O(segments * nodes + edges).
    """
    if not parts:
        raise _invalid("the cut has no parts; give at least one")
    free = replicable(graph)
    owner = _owners(graph, parts, free)
    outputs = _output_owners(graph, parts, owner)
    nodes = _placed_nodes(graph, owner, outputs, len(parts))
    readers = _readers(graph, nodes)
    homes = _parameter_homes(graph, owner, readers)
    _check_updates(graph, homes, readers)
    tensors = _boundary_tensors(graph, owner, readers, homes, trainable)
    _check_order(tensors)
    loss = graph.outputs[0] if kind == TRAIN and graph.outputs else None
    return tuple(
        Segment(
            index=index,
            nodes=indices,
            parameters=tuple(
                name for name in graph.parameters if homes[name] == index),
            data_inputs=tuple(name for name in graph.inputs if index in readers.get(name, {})),
            incoming=tuple(tensor for tensor in tensors if tensor.target == index),
            outgoing=tuple(tensor for tensor in tensors if tensor.source == index),
            has_loss=loss is not None and index == outputs.get(loss),
            results=tuple(
                ResultTensor(name=name, type=graph.types[name])
                for name, segment in outputs.items() if segment == index and name != loss),
        )
        for index, indices in enumerate(nodes)
    )


def segment_graph(graph: Graph, segment: Segment) -> Graph:
    """The part of `graph` that a segment runs, as a graph of its own.

    Nodes keep their indices in the whole graph. Inputs are the data columns, then the arriving
    activations; parameters are the segment's own, then foreign ones; outputs are the loss (where
    the segment has it), the segment's results, then the leaving activations. Updates go with the
    nodes that make them.
    """
    nodes = tuple(graph.nodes[index] for index in segment.nodes)
    made = {name for node in nodes for name in node.outputs if name}
    read = {name for node in nodes for name in node.inputs if name}
    arriving = _values(segment.incoming, BoundaryKind.ACTIVATION)
    foreign = _values(segment.incoming, BoundaryKind.PARAMETER)
    leaving = _values(segment.outgoing, BoundaryKind.ACTIVATION)
    results = [result.name for result in segment.results]
    if segment.has_loss:
        results.insert(0, graph.outputs[0])
    outputs = tuple(dict.fromkeys([*results, *leaving]))
    constants = {name: value for name, value in graph.constants.items() if name in read}
    inputs = (*segment.data_inputs, *arriving)
    parameters = (*segment.parameters, *foreign)
    known = dict.fromkeys([*inputs, *parameters, *constants, *outputs])
    known.update(dict.fromkeys(name for node in nodes for name in node.outputs if name))
    return Graph(
        opset=graph.opset, nodes=nodes, inputs=inputs, parameters=parameters, outputs=outputs,
        constants=constants, types={name: graph.types[name] for name in known},
        updates={name: value for name, value in graph.updates.items() if value in made},
        stopped=graph.stopped & made)


def quotient_edges(segments: Sequence[Segment]) -> tuple[tuple[int, int], ...]:
    """Pairs (source, target) of segments between which tensors flow, sorted, each once."""
    return tuple(sorted({(t.source, t.target) for s in segments for t in s.outgoing}))


def _values(tensors: Sequence[BoundaryTensor], kind: BoundaryKind) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tensor.value for tensor in tensors if tensor.kind == kind))


def _owners(
    graph: Graph, parts: Sequence[Sequence[int]], free: frozenset[int]
) -> dict[int, int]:
    """Segment of each node that is not replicable; proves that each has exactly one."""
    owner: dict[int, int] = {}
    for segment, part in enumerate(parts):
        for index in part:
            if not 0 <= index < len(graph.nodes):
                raise _invalid(
                    f"part {segment} names node {index}, but the graph has nodes 0 to "
                    f"{len(graph.nodes) - 1}", segment=segment, node=index)
            if index in free:
                continue
            if index in owner:
                raise _invalid(
                    f"node {index} '{graph.nodes[index].name}' is in part {owner[index]} and in "
                    f"part {segment}; put it in one", node=index)
            owner[index] = segment
    missing = [node for node in graph.nodes if node.index not in free and node.index not in owner]
    if missing:
        raise _invalid(
            f"{len(missing)} nodes are in no part, first node {missing[0].index} "
            f"'{missing[0].name}'; put each in one part", node=missing[0].index)
    return owner


def _output_owners(
    graph: Graph, parts: Sequence[Sequence[int]], owner: Mapping[int, int]
) -> dict[str, int]:
    """The one segment that each computed graph output belongs to."""
    producer = _producers(graph)
    named: dict[int, int] = {}
    for segment, part in enumerate(parts):
        for index in part:
            named[index] = segment
    last = len(parts) - 1
    return {
        name: owner.get(producer[name], named.get(producer[name], last))
        for name in graph.outputs if name in producer
    }


def _placed_nodes(
    graph: Graph, owner: Mapping[int, int], outputs: Mapping[str, int], segments: int
) -> tuple[tuple[int, ...], ...]:
    """Nodes that each segment runs, ascending: its own and the replicable ones it needs."""
    producer = _producers(graph)
    needed: list[set[int]] = [set() for _ in range(segments)]
    for index, segment in owner.items():
        needed[segment].add(index)
    for name, segment in outputs.items():
        needed[segment].add(producer[name])
    for segment, indices in enumerate(needed):
        stack = list(indices)
        while stack:
            for name in graph.nodes[stack.pop()].inputs:
                maker = producer.get(name)
                if maker is not None and maker not in owner and maker not in indices:
                    indices.add(maker)
                    stack.append(maker)
        if not indices:
            raise _invalid(
                f"segment {segment} would run nothing; leave the part out", segment=segment)
    return tuple(tuple(sorted(indices)) for indices in needed)


def _producers(graph: Graph) -> dict[str, int]:
    return {name: node.index for node in graph.nodes for name in node.outputs if name}


def _readers(graph: Graph, nodes: Sequence[Sequence[int]]) -> Readers:
    readers: dict[str, dict[int, tuple[int, ...]]] = {}
    for segment, indices in enumerate(nodes):
        for index in indices:
            for name in dict.fromkeys(name for name in graph.nodes[index].inputs if name):
                by_segment = readers.setdefault(name, {})
                by_segment[segment] = (*by_segment.get(segment, ()), index)
    return readers


def _parameter_homes(
    graph: Graph, owner: Mapping[int, int], readers: Readers
) -> Mapping[str, int]:
    """Segment that keeps each parameter: its first reader, or whoever makes its update."""
    homes = {name: min(readers.get(name, {}), default=0) for name in graph.parameters}
    producer = _producers(graph)
    homes.update({name: owner[producer[value]] for name, value in graph.updates.items()})
    return homes


def _crossings(
    graph: Graph, owner: Mapping[int, int], readers: Readers, homes: Mapping[str, int]
) -> Iterator[tuple[str, BoundaryKind, int, int]]:
    """(value, kind, source, target) of every boundary tensor, in the order of their numbers."""
    for node in graph.nodes:
        if node.index not in owner:
            continue
        source = owner[node.index]
        for name in node.outputs:
            for target in sorted(readers.get(name, {})):
                if target != source:
                    yield name, BoundaryKind.ACTIVATION, source, target
    for name in graph.parameters:
        home = homes[name]
        for target in sorted(readers.get(name, {})):
            if target != home:
                yield name, BoundaryKind.PARAMETER, home, target


def _boundary_tensors(
    graph: Graph, owner: Mapping[int, int], readers: Readers, homes: Mapping[str, int],
    trainable: frozenset[str],
) -> tuple[BoundaryTensor, ...]:
    differentiable = differentiable_values(graph, trainable)
    tensors = []
    for edge, (value, kind, source, target) in enumerate(
            _crossings(graph, owner, readers, homes)):
        adding = {
            segment: _adding(graph.nodes, value, indices, graph, differentiable)
            for segment, indices in readers[value].items()
        }
        others = [i for segment, indices in adding.items() if segment != target for i in indices]
        tensors.append(BoundaryTensor(
            edge=edge, value=value, kind=kind, source=source, target=target,
            type=graph.types[value], differentiable=bool(adding[target]),
            consumers=adding[target] or readers[value][target],
            contributions=_contributions(adding[target], others)))
    return tuple(tensors)


def _adding(
    nodes: Sequence[Node], value: str, indices: Sequence[int], graph: Graph,
    differentiable: frozenset[str],
) -> tuple[int, ...]:
    return tuple(i for i in indices if gives_gradient(graph, nodes[i], value, differentiable))


def _contributions(mine: Sequence[int], others: Sequence[int]) -> int:
    """Extent of the gradient frame from one target (rule in the module's docstring)."""
    if len(mine) <= 1 or not others or min(mine) > max(others):
        return 1
    return len(mine)


def _check_updates(graph: Graph, homes: Mapping[str, int], readers: Readers) -> None:
    """An update happens within a microbatch, so everybody who reads it must be at hand."""
    for name in graph.updates:
        home = homes[name]
        elsewhere = [segment for segment in readers.get(name, {}) if segment != home]
        if elsewhere:
            raise _invalid(
                f"segment {elsewhere[0]} reads the parameter '{name}', which segment {home} "
                "updates after every microbatch; put both into one segment", parameter=name)


def _check_order(tensors: Sequence[BoundaryTensor]) -> None:
    backward = [tensor for tensor in tensors if tensor.source >= tensor.target]
    if not backward:
        return
    edges = {(tensor.source, tensor.target) for tensor in tensors}
    first = backward[0]
    problem = (
        "segments depend on each other in a circle" if _is_cyclic(edges)
        else "segments are not numbered in topological order")
    raise _invalid(
        f"{problem}: value '{first.value}' would flow from segment {first.source} to segment "
        f"{first.target}; every tensor must flow to a higher number", value=first.value,
        source=first.source, target=first.target)


def _is_cyclic(edges: set[tuple[int, int]]) -> bool:
    left = set(edges)
    while left:
        targets = {target for _, target in left}
        kept = {edge for edge in left if edge[0] in targets}
        if kept == left:
            return True
        left = kept
    return False


def _invalid(message: str, **details: object) -> HomespunError:
    return HomespunError(Code.INVALID_GRAPH, f"{message}.", **details)
