"""A job's timeline: a lane per segment, in it a span per peer that had it, and what happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from homespun import markup
from homespun.cli.output import printable, table_lines
from homespun.plan.svg import Drawing, colour, shortened, time_axis
from homespun.units import format_duration, format_time
from homespun.wire import from_message

RECOVERIES = ("segment_vacant", "segment_moves", "job_went_back")
"""Kinds of events with which a job loses time: its charts mark them."""
TEXT_WIDTH = 60
SHOWN_SPANS = 40
"""Spans that a text or a drawing shows, the newest; the data has all."""
_LANE, _NAMES, _WIDTH = 24.0, 190.0, 640.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineSpan:
    """One peer's time with one segment; times are Unix time in ms, 0 for not yet.

    Attributes:
        segment: its number.
        peer_id: who had it.
        peer_name: what people call that peer.
        token: of the lease.
        position: where the peer began.
        assigned_unix_ms: when it was told to load the segment.
        running_unix_ms: when it began to work.
        ended_unix_ms: when it was done or the segment was taken back.
        end: `finished` or `revoked`; "" while it holds the segment.
        reason: why it had the segment, where another peer had it before; else "".
    """

    segment: int
    peer_id: str
    peer_name: str
    token: int
    position: int
    assigned_unix_ms: int
    running_unix_ms: int
    ended_unix_ms: int
    end: str
    reason: str = ""

    @property
    def label(self) -> str:
        """What to call the peer: its name, or else its id."""
        return self.peer_name or self.peer_id


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """One line of the broker's event log: when, about what, of which kind, in one sentence."""

    number: int
    unix_ms: int
    subject: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One segment's spans, in order of time."""

    segment: int
    spans: tuple[TimelineSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Timeline:
    """Who had which segment when, and what happened.

    Attributes:
        job_id: the job.
        state: its state when the timeline was asked for.
        begin_unix_ms: when the job was submitted.
        finished_unix_ms: when it ended; 0 while it goes on.
        end_unix_ms: when it ended; of one that goes on, when the timeline was asked for.
        lanes: in segment order; empty until the job is placed.
        events: oldest first; the newest 1,000.
    """

    job_id: str
    state: str
    begin_unix_ms: int
    finished_unix_ms: int
    end_unix_ms: int
    lanes: tuple[Lane, ...]
    events: tuple[EventLine, ...]

    @property
    def recoveries(self) -> tuple[EventLine, ...]:
        """The events with which the job lost time: segments that moved, or waited for a peer."""
        return tuple(event for event in self.events if event.kind in RECOVERIES)

    def to_dict(self) -> dict[str, object]:
        """The same as plain data, for JSON: what `broker timeline` prints too."""
        return {
            "job_id": self.job_id, "state": self.state, "submitted_unix_ms": self.begin_unix_ms,
            "finished_unix_ms": self.finished_unix_ms,
            "spans": [asdict(span) for lane in self.lanes for span in lane.spans],
            "events": [asdict(event) for event in self.events]}

    def __repr__(self) -> str:
        return "\n".join(_lines(self))

    def _repr_html_(self) -> str:
        events = markup.table(("time", "what", ""), [
            (format_time(event.unix_ms), event.kind, event.text)
            for event in self.events[-SHOWN_SPANS:]])
        return markup.card(_title(self), _picture(self) if self.lanes else "", events)


def timeline_of(message: Any, now_unix_ms: int) -> Timeline:
    """The timeline in a message, as of now."""
    spans = [from_message(span, TimelineSpan) for span in message.spans]
    events = tuple(from_message(event, EventLine) for event in message.events)
    known_ms = [message.submitted_unix_ms, *(event.unix_ms for event in events), *(
        max(span.assigned_unix_ms, span.running_unix_ms, span.ended_unix_ms) for span in spans)]
    return Timeline(
        job_id=message.job_id,
        state=message.state,
        begin_unix_ms=message.submitted_unix_ms,
        finished_unix_ms=message.finished_unix_ms,
        end_unix_ms=message.finished_unix_ms or max(now_unix_ms, *known_ms),
        lanes=tuple(
            Lane(segment=number, spans=tuple(span for span in spans if span.segment == number))
            for number in sorted({span.segment for span in spans})),
        events=events,
    )


def _title(timeline: Timeline) -> str:
    took = format_duration((timeline.end_unix_ms - timeline.begin_unix_ms) / 1000)
    count = len(timeline.recoveries)
    return (f"{timeline.job_id} {timeline.state} after {took}: {len(timeline.lanes)} "
            f"segment{'s' * (len(timeline.lanes) != 1)}, {count} "
            f"recover{'y' if count == 1 else 'ies'}")


def _lines(timeline: Timeline) -> Iterator[str]:
    """A bar for each span: `.` while the peer loads the segment, `#` while it works."""
    yield printable(_title(timeline))
    shown = _newest(timeline)
    rows = [(str(span.segment), span.label, _text_bar(timeline, span), span.end or "holds it",
             span.reason) for span in shown]
    if rows:
        yield from table_lines(("segment", "peer", "time", "end", "why there"), rows)
    hidden = sum(len(lane.spans) for lane in timeline.lanes) - len(shown)
    if hidden:
        yield f"and {hidden} earlier spans"


def _newest(timeline: Timeline) -> Sequence[TimelineSpan]:
    """The spans to show, by segment."""
    spans = [span for lane in timeline.lanes for span in lane.spans]
    newest = {span.token for span in sorted(spans, key=lambda span: span.token)[-SHOWN_SPANS:]}
    return [span for span in spans if span.token in newest]


def _text_bar(timeline: Timeline, span: TimelineSpan) -> str:
    begin, works, end = (round(TEXT_WIDTH * share) for share in _shares(timeline, span))
    end = max(end, begin + 1)
    works = min(works, end)
    return (" " * begin + "." * (works - begin) + "#" * (end - works)).ljust(TEXT_WIDTH)


def _shares(timeline: Timeline, span: TimelineSpan) -> tuple[float, float, float]:
    """When a span begins, when its peer works, and when it ends, as shares of the whole time."""
    whole = max(1, timeline.end_unix_ms - timeline.begin_unix_ms)
    ended = span.ended_unix_ms or timeline.end_unix_ms
    begin, works, end = (
        min(1.0, max(0.0, (at - timeline.begin_unix_ms) / whole))
        for at in (span.assigned_unix_ms, span.running_unix_ms or ended, ended))
    return begin, min(works, end), end


def _picture(timeline: Timeline) -> str:
    """Lanes as a drawing, a colour for each peer, pale while it loads."""
    shown = _newest(timeline)
    numbers = {peer: at for at, peer in enumerate(dict.fromkeys(s.peer_id for s in shown))}
    height = _LANE * len(shown)
    drawing = Drawing(_NAMES + _WIDTH + 30, height + 30, _title(timeline), "\n".join(
        f"Segment {span.segment} on {span.label}: {span.end or 'holds it'}" for span in shown))
    end_s = max(0.001, (timeline.end_unix_ms - timeline.begin_unix_ms) / 1000)
    time_axis(drawing, _NAMES, 0, _WIDTH, height, end_s)
    for row, span in enumerate(shown):
        begin, works, end = (_NAMES + _WIDTH * share for share in _shares(timeline, span))
        top, paint = _LANE * row + 4, colour(numbers[span.peer_id])
        drawing.text(0, top + 13, f"{span.segment}  {shortened(span.label)}")
        label = f"{span.label}: {span.end or 'holds it'}. {span.reason}".strip(" .")
        drawing.box(begin, top, works - begin, _LANE - 8, paint, label, opacity=0.4)
        drawing.box(works, top, end - works, _LANE - 8, paint, label)
    return drawing.fragment()
