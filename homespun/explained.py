"""An explanation of a job's placement that shows itself to people, in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from homespun import markup
from homespun.cli.output import printable
from homespun.explanation import Alternative, Explanation, Offer, SegmentExplanation
from homespun.units import format_duration, format_size

SHOWN = 12
"""Entries of a list that a text shows; the data has all."""


class Explained(Explanation):
    """Fields as of `Explanation`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(printable(line) for line in _lines(self))

    def _repr_html_(self) -> str:
        title, *rest = _lines(self)
        return markup.card(title, *(markup.line(line) for line in rest))


def _lines(why: Explanation) -> Iterator[str]:
    yield f"{why.job_id} {why.state}" + (f": {why.reason}" if why.reason else "")
    if not why.algorithm:
        yield "It has no placement."
        return
    yield f"Planned by {why.algorithm}: {format_duration(why.step_s)} a step predicted."
    yield from (f"  {bound.text}" for bound in why.bounds if bound.rule != "waits")
    for segment in why.segments:
        yield _segment(segment)
        if len(why.segments) == 1:
            yield from _some([_alternative(each) for each in segment.alternatives],
                             segment.more_alternatives)
    yield from _some(list(_turned_down(why.offers)))
    yield from _some([f"  {each.subject_name or each.subject} stays idle: {each.text}"
                      for each in why.idle])


def _segment(one: SegmentExplanation) -> str:
    moved = f" It was planned for {one.planned_peer_name or one.planned_peer_id}: {one.why}" if (
        one.rule == "takeover") else ""
    measured = f", took {format_duration(one.measured_s)}" if one.measured_s else ""
    return (f"  segment {one.segment} on {one.peer_name or one.peer_id}: {one.nodes} nodes, "
            f"{format_size(one.memory_bytes)} of {format_size(one.memory_lent_bytes)}; a "
            f"microbatch should take {format_duration(one.predicted_s)}{measured}.{moved}")


def _alternative(one: Alternative) -> str:
    return f"    not {one.peer_name or one.peer_id}: {one.text}"


def _turned_down(offers: Sequence[Offer]) -> Iterator[str]:
    """Algorithms whose plan was not taken; those with the same reason, and step, together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for offer in offers:
        if offer.reason:
            step = f", {format_duration(offer.step_s)} a step" if offer.has_plan else ""
            alike.setdefault((step, offer.reason), []).append(offer.algorithm)
    for (step, reason), names in alike.items():
        yield f"  not by {', '.join(names)}{step}: {reason}"


def _some(lines: Sequence[str], more: int = 0) -> Iterator[str]:
    yield from lines[:SHOWN]
    if (hidden := max(0, len(lines) - SHOWN) + more) > 0:
        yield f"    and {hidden} more"
