"""The planner's question and answer, and the protocol that every placer follows. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from dag.cluster import Cluster
from dag.job import JobSpec
from ir.graph import Graph
from ir.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementProblem:
    """What to place where.

    Attributes:
        graph: the checked training graph.
        job: batch sizes, optimizer (its state takes memory), precision, peers wanted.
        cluster: the peers and links to choose from.
    """

    graph: Graph
    job: JobSpec
    cluster: Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlacement:
    """One segment on one peer, with what the planner expects of it.

    Attributes:
        segment: what to run.
        peer_id: where.
        in_flight: most microbatches that may be between forward and backward here, >= 1.
        memory_bytes: predicted peak device memory.
        forward_s: predicted time of one microbatch forward.
        backward_s: predicted time of one microbatch backward.
    """

    segment: Segment
    peer_id: str
    in_flight: int
    memory_bytes: int
    forward_s: float
    backward_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a peer or a candidate was not used, as data.

    Attributes:
        subject: a peer id, or the name of a candidate plan.
        rule: stable short name: `memory`, `slower`, `count`, or what an executor lacks:
            `operator`, `dtype`, `opset`, `trainable`.
        wanted: the quantity that the rule needed, in the rule's unit (bytes, seconds, peers).
        had: the quantity that was there.
        text: one sentence for a person.
        subject_name: what people call that peer; the broker fills it in where it shows a refusal.
        node: name of the node that an executor cannot run; "" for other rules.
    """

    subject: str
    rule: str
    wanted: float
    had: float
    text: str
    subject_name: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What one algorithm offered for a job.

    Attributes:
        algorithm: its name.
        step_s: predicted step of its best plan; None if it has none that can run.
        reason: why it is not the plan; "" for the one that is.
    """

    algorithm: str
    step_s: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """An accepted plan. Peers that are not in it stay idle, each with its `Refusal`.

    Attributes:
        segments: in segment order.
        algorithm: name of what found it.
        step_s: predicted time of one step; for inference of one microbatch in the steady flow.
        idle: why each unused peer is unused.
        candidates: what every algorithm offered, the best first.
    """

    segments: tuple[SegmentPlacement, ...]
    algorithm: str
    step_s: float
    idle: tuple[Refusal, ...] = ()
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """No plan exists: why, per rule and peer.

    Attributes:
        refusals: the reasons.
        missing_bytes: device memory that is short in total; 0 when memory is not the reason.
    """

    refusals: tuple[Refusal, ...]
    missing_bytes: int

