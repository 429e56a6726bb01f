"""A job's timeline as lanes of an SVG: one lane per segment, one bar per peer that had it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.timeline import Span

WIDTH = 800.0
LANE_HEIGHT = 22.0
BAR_HEIGHT = 16.0
SPANS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One peer's time with one segment; numbers as SVG wants them.

    Attributes:
        x, y, width: where it is.
        loading: width of the part in which the peer loaded the segment.
        peer: its name.
        state: `holds`, `finished` or `revoked`.
        token: of the lease, for a person who compares with the table.
    """

    x: str
    y: str
    width: str
    loading: str
    peer: str
    state: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The drawing: bars of all segments, on `WIDTH` x `height` units."""

    bars: tuple[Bar, ...]
    segments: tuple[tuple[int, str], ...]
    """Number of each segment and where its lane's text stands."""
    height: float


def lanes(
    spans: Sequence[Span], names: Mapping[str, str], from_ns: int, until_ns: int
) -> Lanes | None:
    """Draw the newest spans of a job.

    Args:
        spans: by segment.
        names: of peers, by id.
        from_ns: left edge.
        until_ns: right edge: the job's end, or now.

    Returns:
        None where nobody has had a segment yet.
    """
    shown = sorted(spans, key=lambda span: span.token)[-SPANS_MAX:]
    if not shown or until_ns <= from_ns:
        return None
    lane_of = {index: lane for lane, index in enumerate(sorted({s.segment for s in shown}))}

    def x(at_ns: int) -> float:
        return WIDTH * min(max(at_ns - from_ns, 0), until_ns - from_ns) / (until_ns - from_ns)

    bars = []
    for span in shown:
        left, right = x(span.assigned_at_ns), x(span.ended_at_ns or until_ns)
        loaded = min(x(span.running_at_ns or span.ended_at_ns or until_ns), right)
        bars.append(Bar(
            x=f"{left:.1f}", y=f"{LANE_HEIGHT * lane_of[span.segment]:.1f}",
            width=f"{max(right - left, 1.0):.1f}", loading=f"{loaded - left:.1f}",
            peer=names.get(span.peer_id, span.peer_id), state=span.end or "holds",
            token=span.token))
    texts = tuple((index, f"{LANE_HEIGHT * lane + BAR_HEIGHT - 4:.1f}")
                  for index, lane in lane_of.items())
    return Lanes(bars=tuple(bars), segments=texts, height=LANE_HEIGHT * len(lane_of))
