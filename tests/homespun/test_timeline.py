"""A timeline as data, as text and as a drawing."""

from __future__ import annotations

import pytest

from homespun.timeline import SHOWN_SPANS, TEXT_WIDTH, timeline_of
from homespun.v1 import operator_pb2
from tests.homespun.html_check import PAYLOADS, words_of

BEGIN = 1_700_000_000_000


def message(finished=0, name="study"):
    """Segment 1 moves from `name` to shed after 30 s of 60."""
    found = operator_pb2.Timeline(
        job_id="job_000004", state="succeeded" if finished else "running",
        submitted_unix_ms=BEGIN, finished_unix_ms=finished)

    def span(segment, peer, token, assigned, running, ended, end, reason=""):
        found.spans.add(
            segment=segment, peer_id=f"peer_{token}", peer_name=peer, token=token,
            reason=reason,
            assigned_unix_ms=BEGIN + assigned, running_unix_ms=running and BEGIN + running,
            ended_unix_ms=ended and BEGIN + ended, end=end)

    last = finished and finished - BEGIN
    end = "finished" if finished else ""
    span(0, "attic", 1, 0, 6_000, last, end)
    span(1, name, 2, 0, 6_000, 30_000, "revoked")
    span(1, "shed", 3, 30_000, 36_000, last, end, f"{name} was lost.")
    for number, (at, kind) in enumerate(
            [(0, "job_placed"), (30_000, "segment_vacant"), (30_100, "segment_moves")]):
        found.events.add(number=number, unix_ms=BEGIN + at, subject="job_000004", kind=kind,
                         text=f"{kind} {name}.")
    return found


def test_lanes_are_the_spans_of_each_segment():
    timeline = timeline_of(message(BEGIN + 60_000), BEGIN + 900_000)
    assert [(lane.segment, [span.label for span in lane.spans]) for lane in timeline.lanes] == [
        (0, ["attic"]), (1, ["study", "shed"])]
    assert timeline.end_unix_ms == BEGIN + 60_000
    assert [event.kind for event in timeline.recoveries] == ["segment_vacant", "segment_moves"]


def test_a_timeline_reads_as_bars():
    lines = repr(timeline_of(message(BEGIN + 60_000), 0)).splitlines()
    assert lines[0] == "job_000004 succeeded after 1m 00s: 2 segments, 2 recoveries"
    assert lines[1].split() == ["segment", "peer", "time", "end", "why", "there"]
    begin = lines[1].index("time")
    bars = [line[begin:begin + TEXT_WIDTH].rstrip() for line in lines[2:]]
    assert bars == [
        "." * 6 + "#" * 54, "." * 6 + "#" * 24, " " * 30 + "." * 6 + "#" * 24]
    assert [line[begin + TEXT_WIDTH:].strip() for line in lines[2:]] == [
        "finished", "revoked", "finished  study was lost."]


def test_a_job_that_goes_on_ends_now():
    timeline = timeline_of(message(), BEGIN + 120_000)
    assert timeline.end_unix_ms == BEGIN + 120_000
    assert repr(timeline).count("holds it") == 2


def test_a_clock_that_is_behind_the_brokers_hides_nothing():
    assert timeline_of(message(), BEGIN - 5_000).end_unix_ms == BEGIN + 36_000


def test_a_job_that_is_not_placed_has_no_lane():
    empty = operator_pb2.Timeline(job_id="job_1", state="submitted", submitted_unix_ms=BEGIN)
    timeline = timeline_of(empty, BEGIN + 1_000)
    assert timeline.lanes == ()
    assert repr(timeline) == "job_1 submitted after 1.0s: 0 segments, 0 recoveries"
    assert "0 segments" in words_of(timeline._repr_html_())


def test_a_long_timeline_shows_its_newest_spans():
    found = operator_pb2.Timeline(job_id="j", state="running", submitted_unix_ms=BEGIN)
    for token in range(100):
        found.spans.add(segment=token % 4, peer_id=f"p{token}", token=token,
                        assigned_unix_ms=BEGIN + token)
    timeline = timeline_of(found, BEGIN + 1_000)
    assert sum(len(lane.spans) for lane in timeline.lanes) == 100
    text = repr(timeline)
    assert text.endswith(f"and {100 - SHOWN_SPANS} earlier spans")
    assert "p99" in text
    assert "p59 " not in text


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_name_becomes_markup(payload):
    timeline = timeline_of(message(BEGIN + 60_000, payload), 0)
    assert "segment_vacant" in words_of(timeline._repr_html_())
    assert "\x1b" not in repr(timeline)
