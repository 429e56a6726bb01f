"""What a job remembers of replans: the newest decision, and the cuts that came of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from dag.placement import Placement
from dag.replanning.worth import Worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Recut:
    """A started job was cut anew.

    Attributes:
        position: where all segments of the new cut began.
        segments_before, segments_after: their numbers.
        worth: why: measured and expected steps, what the stop costs, when it pays.
        at_ns: when.
    """

    position: int
    segments_before: int
    segments_after: int
    worth: Worth
    at_ns: int


@dataclass(slots=True)
class GrowthRecord:
    """What a job knows of fresh capacity."""

    known: frozenset[str] = frozenset()
    """Free peers that a plan has considered. For membership tests only, never iterated."""
    newcomers: tuple[str, ...] = ()
    """Free peers that none has, by id."""
    seen_version: int = -1
    """Cluster version at which newcomers were looked for."""
    due_ns: int | None = None
    """When the planner is asked about them."""
    not_before_ns: int = 0
    """The pause after the last answer is over then."""
    asked_version: int = -1
    """Cluster version of the question that the planner is at work on; -1 for none."""
    plan: Placement | None = None
    """A plan that pays: it waits for the next complete position..."""
    plan_position: int = 0
    """...after this one..."""
    plan_stay_s: float = 0.0
    """...and this is what the planner predicts for a step of the present plan..."""
    plan_move_s: float = 0.0
    """...and this for bringing the state to its new segments."""
    verdict: str = ""
    """What was decided last, and why; "" before the first time."""
    recuts: list[Recut] = field(default_factory=list)
    awaited: dict[int, str] = field(default_factory=dict)
    """Just cut anew: segment -> its peer of the plan, while some still hold their old segment."""
    awaited_until_ns: int = 0
    """Then whoever is free takes them."""
