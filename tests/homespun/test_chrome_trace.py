"""A timeline as a trace that Perfetto and chrome://tracing read."""

from __future__ import annotations

import json

from homespun.chrome_trace import EVENTS_LANE, trace_of
from homespun.timeline import timeline_of
from homespun.v1 import operator_pb2

BEGIN = 1_700_000_000_000


def timeline():
    """Segment 0 works from 2 s on; segment 1 moves at 5 s to a peer that still loads at 9 s."""
    found = operator_pb2.Timeline(
        job_id="job_000004", state="recovering", submitted_unix_ms=BEGIN)
    for token, (segment, assigned, running, until, end) in enumerate([
            (0, 500, 2_000, 0, ""), (1, 500, 2_000, 5_000, "revoked"), (1, 5_500, 0, 0, "")]):
        found.spans.add(
            segment=segment, peer_id=f"peer_{token}", peer_name="attic", token=token, end=end,
            assigned_unix_ms=BEGIN + assigned, running_unix_ms=running and BEGIN + running,
            ended_unix_ms=until and BEGIN + until)
    found.events.add(number=7, unix_ms=BEGIN + 5_000, subject="job_000004",
                     kind="segment_vacant", text="It is gone.")
    return timeline_of(found, BEGIN + 9_000)


def test_lanes_spans_and_events_are_there_in_microseconds():
    trace = json.loads(json.dumps(trace_of(timeline())))
    events = trace["traceEvents"]
    assert {(e["tid"], e["args"]["name"]) for e in events if e["ph"] == "M"} == {
        (EVENTS_LANE, "job_000004"), (EVENTS_LANE, "what happened"), (1, "segment 0"),
        (2, "segment 1")}
    spans = [(e["tid"], e["cat"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    assert spans == [
        (1, "loads", 500_000, 1_500_000), (1, "works", 2_000_000, 7_000_000),
        (2, "loads", 500_000, 1_500_000), (2, "works", 2_000_000, 3_000_000),
        (2, "loads", 5_500_000, 3_500_000)]
    (happened,) = [e for e in events if e["ph"] == "i"]
    assert (happened["name"], happened["ts"]) == ("segment_vacant", 5_000_000)
    assert happened["args"] == {"text": "It is gone."}
    assert {e["pid"] for e in events} == {1}
