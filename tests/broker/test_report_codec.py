"""Reports as events: what arrives, what is cut, and what no honest peer reports."""

import math

import pytest

from broker.core import events as ev
from broker.core.limits import MAX_COPY_S, MAX_MESSAGE, MAX_SEGMENTS, MAX_SHARDS, MAX_TEXT
from broker.rpc.report_codec import report_event
from homespun.errors import Code, HomespunError
from homespun.v1 import session_pb2

DIGEST = "ab" * 32
BASE = {"number": 7, "job_id": "job_000001", "segment": 2, "token": 5}


def event(**body):
    return report_event("peer_a", session_pb2.Report(**BASE, **body))


def expected(kind, **fields):
    return kind(at_ns=0, peer_id="peer_a", **BASE, **fields)


def snapshot(**changes):
    return session_pb2.SnapshotStored(**({
        "position": 40, "digest": DIGEST, "size_bytes": 4096, "holder": "peer_b", "shard": 1,
        "data_shards": 3, "seconds": 0.5} | changes))


def pace(microbatch_s=0.25, microbatches=64):
    return session_pb2.SegmentPace(microbatch_s=microbatch_s, microbatches=microbatches)


def test_a_snapshot_arrives_as_it_was_told():
    assert event(snapshot=snapshot()) == expected(
        ev.SnapshotStored, position=40, digest=DIGEST, size_bytes=4096, holder="peer_b", shard=1,
        data_shards=3, seconds=0.5)


def test_a_lost_neighbour_arrives_with_whom_it_blames():
    lost = session_pb2.NeighbourLost(
        neighbour=1, peer_id="peer_b", code="PEER_LOST", message="the link is gone")
    assert event(neighbour_lost=lost) == expected(
        ev.NeighbourLost, neighbour=1, blamed_peer="peer_b", code="PEER_LOST",
        message="the link is gone")


@pytest.mark.parametrize("level", ["store", "warm", "hot"])
def test_a_standby_arrives_with_its_level(level):
    said = session_pb2.StandbyReady(level=level)
    assert event(standby=said) == expected(ev.StandbyReady, level=level)


def test_a_standby_that_broke_says_why_within_bounds():
    said = session_pb2.StandbyReady(level="store", problem="no room " * 10_000)
    assert event(standby=said) == expected(
        ev.StandbyReady, level="store", problem=("no room " * 10_000)[:MAX_MESSAGE])


def test_a_pace_arrives():
    assert event(pace=pace()) == expected(ev.SegmentPace, microbatch_s=0.25, microbatches=64)


def test_a_failure_arrives_with_its_diagnosis():
    failed = session_pb2.SegmentFailed(
        code="OUT_OF_MEMORY", message="no memory", cause="device_memory",
        evidence="7.9 of 8 GiB in use", remedy="lend less")
    assert event(failed=failed) == expected(
        ev.SegmentFailed, code="OUT_OF_MEMORY", message="no memory", blamed_peer="",
        cause="device_memory", evidence="7.9 of 8 GiB in use", remedy="lend less")


def test_texts_of_a_failure_are_cut_and_cannot_steer_a_terminal():
    long = "\x1b[2J" + "x" * 100_000
    failed = session_pb2.SegmentFailed(
        code=long, message=long, blamed_peer=long, cause=long, evidence=long, remedy=long)
    found = event(failed=failed)
    for text in (found.message, found.evidence, found.remedy):
        assert text.startswith("?[2Jx")
        assert len(text) == MAX_MESSAGE
    assert {len(text) for text in (found.code, found.blamed_peer, found.cause)} == {MAX_TEXT}
    lost = event(neighbour_lost=session_pb2.NeighbourLost(peer_id=long, code=long, message=long))
    assert (len(lost.blamed_peer), len(lost.code), len(lost.message)) == (
        MAX_TEXT, MAX_TEXT, MAX_MESSAGE)


@pytest.mark.parametrize(("field", "body"), [
    ("position", {"snapshot": snapshot(position=0)}),
    ("position", {"snapshot": snapshot(position=-1)}),
    ("position", {"snapshot": snapshot(position=1 << 60)}),
    ("digest", {"snapshot": snapshot(digest="AB" * 32)}),
    ("digest", {"snapshot": snapshot(digest="")}),
    ("digest", {"snapshot": snapshot(digest="a" * 1_000_000)}),
    ("size_bytes", {"snapshot": snapshot(size_bytes=-1)}),
    ("size_bytes", {"snapshot": snapshot(size_bytes=1 << 62)}),
    ("holder", {"snapshot": snapshot(holder="p" * (MAX_TEXT + 1))}),
    ("holder", {"snapshot": snapshot(holder="peer\n")}),
    ("shard", {"snapshot": snapshot(shard=MAX_SHARDS)}),
    ("shard", {"snapshot": snapshot(shard=-1)}),
    ("data_shards", {"snapshot": snapshot(data_shards=0)}),
    ("data_shards", {"snapshot": snapshot(data_shards=MAX_SHARDS + 1)}),
    ("seconds", {"snapshot": snapshot(seconds=math.nan)}),
    ("seconds", {"snapshot": snapshot(seconds=math.inf)}),
    ("seconds", {"snapshot": snapshot(seconds=-0.1)}),
    ("seconds", {"snapshot": snapshot(seconds=2 * MAX_COPY_S)}),
    ("neighbour", {"neighbour_lost": session_pb2.NeighbourLost(neighbour=MAX_SEGMENTS)}),
    ("neighbour", {"neighbour_lost": session_pb2.NeighbourLost(neighbour=-1)}),
    ("level", {"standby": session_pb2.StandbyReady()}),
    ("level", {"standby": session_pb2.StandbyReady(level="boiling" * 10_000)}),
    ("microbatch_s", {"pace": pace(microbatch_s=math.nan)}),
    ("microbatch_s", {"pace": pace(microbatch_s=-math.inf)}),
    ("microbatch_s", {"pace": pace(microbatch_s=1e9)}),
    ("microbatches", {"pace": pace(microbatches=-1)}),
])
def test_what_no_honest_peer_reports_is_refused(field, body):
    with pytest.raises(HomespunError) as caught:
        event(**body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.details["field"] == field
    assert len(caught.value.message) < 300


def test_a_report_without_a_body_is_refused():
    with pytest.raises(HomespunError) as caught:
        event()
    assert caught.value.code is Code.INVALID_ARGUMENT
