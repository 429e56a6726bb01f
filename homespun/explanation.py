"""Why a job's segments are where they are: values that the broker's core makes and everybody shows.

The same values reach the console, `broker placement explain` and the client (fields as in
`jobs.proto`). Whatever is said in a sentence is there as a stable short name too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from dag.placement import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one algorithm of the planner offered for the whole job.

    Attributes:
        algorithm: its name.
        has_plan: whether it found any placement that can run.
        step_s: predicted time of a step; 0 where it has no plan.
        reason: why it is not the plan; "" for the one that is.
    """

    algorithm: str
    has_plan: bool
    step_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What keeps a job from being faster, or from running at all.

    Attributes:
        rule: `slowest` (the pipeline waits for this segment), `memory` (it fills what its peer
            lends), `count` (the job asks for a number of peers), `growth` (what was decided last
            about peers that came), `waits`.
        segment: its number; -1 for the whole job.
        text: one sentence for a person.
    """

    rule: str
    segment: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another peer for a segment.

    Attributes:
        peer_id: which.
        peer_name: its name for people.
        microbatch_s: predicted time of a microbatch there, forward and backward; 0 if unknown.
        level: what it is ready for as a backup: `store`, `warm`, `hot`; "" for nothing.
        rule: why the segment is not there: `slower`, `equal`, `not_moved` (faster, but a move does
            not pay yet), `busy`, `unavailable`, `avoided`, `memory`, `executor`, `unranked`.
        text: the same in a sentence.
    """

    peer_id: str
    peer_name: str
    microbatch_s: float
    level: str
    rule: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentExplanation:
    """Why one segment is where it is.

    Attributes:
        segment: its number.
        peer_id: who has it; of a vacant one the last.
        peer_name: that peer's name for people.
        phase: of its lease, as in `SegmentStatus`.
        rule: `plan`, or `takeover` where it has moved since.
        why: the same in a sentence.
        planned_peer_id: whom the plan gave it.
        planned_peer_name: that peer's name.
        nodes: graph nodes in it.
        memory_bytes: predicted peak of device memory.
        memory_lent_bytes: what its peer lends.
        in_flight: microbatches that it may hold at once.
        predicted_s: predicted time of a microbatch on its peer, forward and backward; 0 if unknown.
        measured_s: what one has taken lately; 0 while unknown.
        alternatives: peers that could have it, the fastest first, then those that could not.
        more_alternatives: how many others are not listed.
    """

    segment: int
    peer_id: str
    peer_name: str
    phase: str
    rule: str
    why: str
    planned_peer_id: str
    planned_peer_name: str
    nodes: int
    memory_bytes: int
    memory_lent_bytes: int
    in_flight: int
    predicted_s: float
    measured_s: float
    alternatives: tuple[Alternative, ...]
    more_alternatives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a job runs where it runs, or does not run.

    Attributes:
        job_id: which job.
        state: of the job, as in `JobStatus`.
        reason: why it waits; "" when it does not.
        algorithm: what found the plan; "" before there is one.
        step_s: the plan's predicted time of a step; 0 before.
        offers: what all algorithms offered, the best first.
        bounds: what keeps it from being faster.
        segments: in segment order, or only the one that was asked about.
        idle: peers that the plan left out, and why.
    """

    job_id: str
    state: str
    reason: str
    algorithm: str
    step_s: float
    offers: tuple[Offer, ...]
    bounds: tuple[Bound, ...]
    segments: tuple[SegmentExplanation, ...]
    idle: tuple[Refusal, ...]

    def to_dict(self) -> dict[str, object]:
        """The same as plain data, for JSON."""
        return asdict(self)
