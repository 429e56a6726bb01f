"""A timeline in the Trace Event Format, which Perfetto and chrome://tracing show.

Complete events (`X`) with microseconds since any moment, instant events (`i`), and metadata (`M`)
that names lanes: Google's "Trace Event Format", "Complete Events" and "Instant Events".
"""

from __future__ import annotations

from typing import Any

from homespun.timeline import Timeline, TimelineSpan

PROCESS = 1
"""All is of one process, the job; its threads are the lanes."""
EVENTS_LANE = 0


def trace_of(timeline: Timeline) -> dict[str, Any]:
    """A timeline as a trace: a thread for each segment, and one for what happened.

    Returns:
        What `json.dump` writes. Times are microseconds since the job was submitted.

    Cost: linear in spans and events.
    """
    lanes = [_named("process_name", EVENTS_LANE, timeline.job_id),
             _named("thread_name", EVENTS_LANE, "what happened")]
    lanes += [_named("thread_name", lane.segment + 1, f"segment {lane.segment}")
              for lane in timeline.lanes]
    spans = [event for lane in timeline.lanes for span in lane.spans
             for event in _events_of(timeline, span)]
    happened = [{
        "ph": "i", "s": "p", "pid": PROCESS, "tid": EVENTS_LANE, "name": event.kind,
        "cat": "event", "ts": _us(timeline, event.unix_ms), "args": {"text": event.text}}
        for event in timeline.events]
    return {"displayTimeUnit": "ms", "traceEvents": [*lanes, *spans, *happened]}


def _named(kind: str, lane: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": PROCESS, "tid": lane, "name": kind, "args": {"name": name}}


def _events_of(timeline: Timeline, span: TimelineSpan) -> list[dict[str, Any]]:
    """A peer loads the segment, then works on it, if it has come so far."""
    ended = span.ended_unix_ms or timeline.end_unix_ms
    works = span.running_unix_ms or ended
    parts = [("loads", span.assigned_unix_ms, works)]
    if span.running_unix_ms:
        parts.append(("works", works, ended))
    more = {"peer_id": span.peer_id, "token": span.token, "position": span.position,
            "end": span.end, "reason": span.reason}
    return [{
        "ph": "X", "pid": PROCESS, "tid": span.segment + 1, "name": f"{span.label} {what}",
        "cat": what, "ts": _us(timeline, begin), "dur": 1_000 * max(0, end - begin), "args": more}
        for what, begin, end in parts]


def _us(timeline: Timeline, unix_ms: int) -> int:
    return 1_000 * (unix_ms - timeline.begin_unix_ms)
