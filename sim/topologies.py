"""Small jobs by hand: segments, the tensors between them, and a description that fits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dag.job import (
    PREDICT,
    ColumnRef,
    JobSpec,
    OptimizerSpec,
    ParameterRef,
    TrainingSpec,
    inference_spec,
)
from ir.graph import INFER, TRAIN, TensorType
from ir.segment import BoundaryKind, BoundaryTensor, ResultTensor, Segment

F32 = TensorType("float32", (2, 2))
MICROBATCH_SIZE = 2


@dataclass(frozen=True, slots=True)
class Edge:
    """A boundary tensor in short.

    Attributes:
        source: segment that produces it.
        target: segment that consumes it.
        gradient: whether a gradient comes back.
        shared: whether it is a parameter, sent after each update, not an activation.
    """

    source: int
    target: int
    gradient: bool = True
    shared: bool = False


TOPOLOGIES: Mapping[str, tuple[int, tuple[Edge, ...]]] = {
    "one": (1, ()),
    "two": (2, (Edge(0, 1),)),
    "chain": (3, (Edge(0, 1), Edge(1, 2))),
    "long": (4, (Edge(0, 1), Edge(1, 2), Edge(2, 3))),
    "skip": (3, (Edge(0, 1), Edge(1, 2), Edge(0, 2))),
    "diamond": (4, (Edge(0, 1), Edge(0, 2), Edge(1, 3), Edge(2, 3), Edge(0, 3, gradient=False))),
    "tied": (3, (Edge(0, 1), Edge(1, 2), Edge(0, 2, shared=True))),
    "tied twice": (4, (Edge(0, 1), Edge(1, 2), Edge(2, 3), Edge(0, 3, shared=True),
                       Edge(1, 3, shared=True), Edge(0, 2, shared=True))),
    "frozen": (4, (Edge(0, 1, gradient=False), Edge(1, 2, gradient=False),
                   Edge(2, 3, gradient=False), Edge(0, 3, gradient=False, shared=True))),
    "roots": (4, (Edge(0, 3), Edge(1, 2, gradient=False), Edge(2, 3))),
}
"""Name -> (number of segments, boundary tensors). `frozen` trains only its last segment."""


def segments_of(
    count: int, edges: tuple[Edge, ...], kind: str = TRAIN, starts: Sequence[int] | None = None
) -> tuple[Segment, ...]:
    """Segments of nodes with one parameter each, `w0`, `w1`, ...; the last one has the loss.

    To infer, no gradient comes back, and each segment but one gives a result.

    Args:
        count: nodes of the graph.
        edges: between nodes, each to a later one.
        kind: what the job does.
        starts: the first node of each segment, ascending from 0; None for one node each.
    """
    begins = list(range(count)) if starts is None else list(starts)
    home = [bisect_right(begins, node) - 1 for node in range(count)]
    crossing = [edge for edge in edges if home[edge.source] != home[edge.target]]
    tensors = tuple(
        BoundaryTensor(
            edge=number,
            value=f"w{edge.source}" if edge.shared else f"v{edge.source}_{edge.target}",
            kind=BoundaryKind.PARAMETER if edge.shared else BoundaryKind.ACTIVATION,
            source=home[edge.source],
            target=home[edge.target],
            type=F32,
            differentiable=edge.gradient and kind == TRAIN,
            consumers=(edge.target,),
        )
        for number, edge in enumerate(crossing)
    )
    last = len(begins) - 1
    return tuple(
        Segment(
            index=index,
            nodes=(nodes := tuple(node for node in range(count) if home[node] == index)),
            parameters=tuple(f"w{node}" for node in nodes),
            data_inputs=("x",) if index in (0, last) else (),
            incoming=tuple(t for t in tensors if t.target == index),
            outgoing=tuple(t for t in tensors if t.source == index),
            has_loss=kind == TRAIN and index == last,
            results=(ResultTensor(name=f"y{index}", type=F32),)
            if kind == INFER and index != 1 else (),
        )
        for index in range(len(begins))
    )


def spec_of(
    count: int,
    *,
    steps: int = 3,
    microbatches: int = 4,
    evaluate_every: int = 0,
    evaluation_microbatches: int = 2,
    clip_norm: float = 0.0,
) -> JobSpec:
    """A description that the broker admits, for exactly `count` peers."""
    parameters = tuple(
        ParameterRef(name=f"w{i}", aliases=(), digest=f"{i + 1:064x}", blob_bytes=100, type=F32,
                     trainable=True)
        for i in range(count)
    )
    rows = {"train": 8, "validation": MICROBATCH_SIZE * evaluation_microbatches}
    columns = tuple(
        ColumnRef(name="x", split=split, digest=f"{900 + i:064x}", blob_bytes=100,
                  type=TensorType("float32", (rows[split], 2)))
        for i, split in enumerate(rows)
    )
    training = TrainingSpec(
        steps=steps, batch_size=microbatches * MICROBATCH_SIZE, microbatches=microbatches, seed=0,
        optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1), clip_norm=clip_norm,
        evaluate_every=evaluate_every)
    return JobSpec(name="simulated", graph_digest="e" * 64, graph_bytes=10, parameters=parameters,
                   columns=columns, training=training, peers=count)


def inference_spec_of(count: int, *, rows: int) -> JobSpec:
    """The same model over the rows of one column, two at a time."""
    column = ColumnRef(name="x", split=PREDICT, digest=f"{900:064x}", blob_bytes=8 * rows,
                       type=TensorType("float32", (rows, 2)))
    return replace(spec_of(count), kind=INFER, columns=(column,),
                   training=inference_spec(rows, MICROBATCH_SIZE))
