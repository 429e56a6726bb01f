"""A job's timeline as lanes of an SVG: one lane per segment, one bar per peer that had it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.console.axes import BOTTOM, Tick, across, at, time_ticks
from broker.core.event_log import LogLine
from broker.core.timeline import Span
from homespun.units import format_duration

LANE_HEIGHT = 22.0
BAR_HEIGHT = 16.0
CHARACTER_WIDTH = 7.0
"""Of a bar's text, about."""
SPANS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One peer's time with one segment; numbers as SVG wants them.

    Attributes:
        x, y, width: where it is.
        loading: width of the part in which the peer loaded the segment.
        peer: its name.
        label: as much of the name as fits into the bar; "" where nothing does.
        label_x, label_y: where it stands.
        text: for who points at it.
        state: `holds`, `finished` or `revoked`.
        token: of the lease, for a person who compares with the table.
    """

    x: str
    y: str
    width: str
    loading: str
    peer: str
    label: str
    label_x: str
    label_y: str
    text: str
    state: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The drawing: bars of all segments, on `axes.WIDTH` x `height` units.

    Attributes:
        bars: of all segments.
        segments: number of each segment and where its lane's text stands.
        marks: (x, what happened) of each moment in which a segment had to move.
        ticks: times since the left edge, along the lower one.
        height: of the drawing with its labels.
        floor: y of the lower edge of the lowest lane.
    """

    bars: tuple[Bar, ...]
    segments: tuple[tuple[int, str], ...]
    marks: tuple[tuple[str, str], ...]
    ticks: tuple[Tick, ...]
    height: float
    floor: float


def lanes(
    spans: Sequence[Span], names: Mapping[str, str], recoveries: Sequence[LogLine],
    from_ns: int, until_ns: int,
) -> Lanes | None:
    """Draw the newest spans of a job.

    Args:
        spans: by segment.
        names: of peers, by id.
        recoveries: what happened when segments moved.
        from_ns: left edge.
        until_ns: right edge: the job's end, or now.

    Returns:
        None where nobody has had a segment yet.
    """
    shown = sorted(spans, key=lambda span: span.token)[-SPANS_MAX:]
    if not shown or until_ns <= from_ns:
        return None
    lane_of = {index: lane for lane, index in enumerate(sorted({s.segment for s in shown}))}
    time = across(0.0, (until_ns - from_ns) / 1e9)

    def x(at_ns: int) -> float:
        return time((at_ns - from_ns) / 1e9)

    bars = []
    for span in shown:
        left, right = x(span.assigned_at_ns), x(span.ended_at_ns or until_ns)
        loaded = min(x(span.running_at_ns or span.ended_at_ns or until_ns), right)
        top = LANE_HEIGHT * lane_of[span.segment]
        name = names.get(span.peer_id, span.peer_id)
        bars.append(Bar(
            x=at(left), y=at(top), width=at(max(right - left, 1.0)), loading=at(loaded - left),
            peer=name, label=_fitting(name, right - loaded), label_x=at(loaded + 5),
            label_y=at(top + BAR_HEIGHT - 4), text=_text(span, name, until_ns),
            state=span.end or "holds", token=span.token))
    floor = LANE_HEIGHT * len(lane_of)
    return Lanes(
        bars=tuple(bars),
        segments=tuple((index, at(LANE_HEIGHT * lane + BAR_HEIGHT - 4))
                       for index, lane in lane_of.items()),
        marks=tuple((at(x(line.at_ns)), line.text) for line in recoveries),
        ticks=time_ticks(time), height=floor + BOTTOM, floor=floor)


def _fitting(name: str, width: float) -> str:
    """As much of a name as fits, if that is enough to tell it by."""
    most = int((width - 8) / CHARACTER_WIDTH)
    if len(name) <= most:
        return name
    return f"{name[:most - 1]}…" if most >= 4 else ""


def _text(span: Span, name: str, until_ns: int) -> str:
    held_s = ((span.ended_at_ns or until_ns) - span.assigned_at_ns) / 1e9
    loaded = "" if not span.running_at_ns else \
        f", loaded in {format_duration((span.running_at_ns - span.assigned_at_ns) / 1e9)}"
    return (f"segment {span.segment} on {name} (token {span.token}): {span.end or 'holds'}, "
            f"{format_duration(max(held_s, 0.0))}{loaded}")
