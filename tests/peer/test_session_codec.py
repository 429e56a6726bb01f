"""Session messages: what the broker sends arrives as events, and reports as it reads them."""

import dataclasses

import pytest

from broker.core import commands as broker_do
from broker.core import events as broker_ev
from broker.rpc.command_codec import message_of
from broker.rpc.report_codec import report_event
from homespun.errors import Code, HomespunError
from homespun.v1 import session_pb2
from peer.core import commands as do
from peer.core import events as ev
from peer.session_codec import (
    HELD_SNAPSHOTS_MAX,
    availability_message,
    event_of,
    held_snapshots,
    no_work_of,
    report_message,
)
from peer.snapshots.keeper import HeldSnapshot

DIGEST = "ab" * 32
WHERE = {"job_id": "job_000001", "token": 9}
LEASE = {**WHERE, "segment": 1}
HOLDERS = (("peer_b", "10.0.0.2:7", 0), ("peer_c", "10.0.0.3:7", 2))


def holders(kind):
    return tuple(
        kind(peer_id=peer, address=address, shard=shard) for peer, address, shard in HOLDERS)


def arrived(command):
    return event_of(message_of(command), at_ns=5)


def assignment(tiny, **changes):
    source = broker_do.SnapshotSource(
        digest=DIGEST, size_bytes=4096, data_shards=2, holders=holders(broker_do.Holder))
    return dataclasses.replace(broker_do.AssignSegment(
        peer_id="peer_a", **WHERE, spec=tiny.spec, segment=tiny.segments[1], in_flight=2,
        segments=2, stall_timeout_ms=1_000, position=2, snapshot=source), **changes)


def test_an_assignment_says_where_to_go_on_and_with_what(tiny):
    assert arrived(assignment(tiny)) == ev.AssignmentReceived(
        at_ns=5, **WHERE, spec=tiny.spec, segment=tiny.segments[1], in_flight=2, segments=2,
        stall_timeout_ms=1_000, position=2, snapshot=ev.SnapshotSource(
            digest=DIGEST, size_bytes=4096, data_shards=2, holders=holders(ev.Holder)))
    assert arrived(assignment(tiny, position=0, snapshot=None)).snapshot is None


def test_an_assignment_of_a_new_cut_says_what_has_its_state_together(tiny):
    source = assignment(tiny).snapshot
    parts = tuple(broker_do.SnapshotPart(serial=serial, source=source) for serial in (1, 0))
    event = arrived(assignment(tiny, snapshot=None, parts=parts, first_serial=2))
    assert event.snapshot is None
    assert event.first_serial == 2
    assert event.parts == tuple(
        ev.SnapshotPart(serial=serial, source=arrived(assignment(tiny)).snapshot)
        for serial in (1, 0))


def test_a_standby_a_plan_and_a_complete_position(tiny):
    sent = {"spec": tiny.spec, "in_flight": 2, "segments": 2, "stall_timeout_ms": 1_000}
    asked = broker_do.StandBy(
        peer_id="peer_a", **WHERE, segment=tiny.segments[1], level="hot", source="peer_b", **sent)
    assert arrived(asked) == ev.StandByReceived(
        at_ns=5, **LEASE, program=tiny.segments[1], level=ev.StandbyLevel.HOT, source="peer_b",
        **sent)
    plan = broker_do.PlanSnapshots(
        peer_id="peer_a", **LEASE, interval=20, holders=holders(broker_do.Holder), data_shards=2)
    assert arrived(plan) == ev.SnapshotPlanReceived(
        at_ns=5, **LEASE, interval=20, holders=holders(ev.Holder), data_shards=2)
    complete = broker_do.CompleteSnapshot(peer_id="peer_a", **LEASE, position=40)
    assert arrived(complete) == ev.SnapshotCompleted(at_ns=5, **LEASE, position=40)


def test_members_with_their_positions_and_a_segment_that_nobody_holds():
    members = (("", 0, "", 7), ("peer_a", 9, "h:1", 40))
    start = broker_do.StartJob(peer_id="peer_a", **LEASE, members=tuple(
        broker_do.Member(segment=n, peer_id=peer, token=token, tensor_address=at, position=there)
        for n, (peer, token, at, there) in enumerate(members)))
    assert arrived(start) == ev.StartReceived(at_ns=5, **LEASE, members=tuple(
        ev.Member(segment=n, peer_id=peer, token=token, tensor_address=at, position=there)
        for n, (peer, token, at, there) in enumerate(members)))


@pytest.mark.parametrize("spoil", [
    lambda m: setattr(m.assign, "position", -1),
    lambda m: setattr(m.assign, "in_flight", 0),
    lambda m: setattr(m.assign.snapshot, "digest", "../x"),
    lambda m: setattr(m.assign.snapshot, "size_bytes", -1),
    lambda m: setattr(m.assign.snapshot.holders[0], "shard", -1),
    lambda m: setattr(m.assign.snapshot.holders[0], "shard", 255),
    lambda m: m.assign.snapshot.holders.extend(list(m.assign.snapshot.holders) * 200),
    lambda m: m.assign.parts.add(serial=-1, source=m.assign.snapshot),
    lambda m: m.assign.parts.add(serial=1),
    lambda m: [m.assign.parts.add(source=m.assign.snapshot) for _ in range(257)],
    lambda m: setattr(m.assign, "first_serial", -1),
], ids=["position", "in_flight", "digest", "size", "negative shard", "high shard", "many holders",
        "negative serial", "no source", "many parts", "negative first serial"])
def test_an_assignment_out_of_range_is_refused(tiny, spoil):
    message = message_of(assignment(tiny))
    spoil(message)
    with pytest.raises(HomespunError) as caught:
        event_of(message, at_ns=5)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_level_that_does_not_exist_is_refused(tiny):
    asked = broker_do.StandBy(
        peer_id="peer_a", **WHERE, segment=tiny.segments[1], level="boiling", source="peer_b",
        spec=tiny.spec, in_flight=2, segments=2, stall_timeout_ms=1_000)
    with pytest.raises(HomespunError, match="boiling"):
        arrived(asked)


SNAPSHOT = {"position": 40, "digest": DIGEST, "size_bytes": 4096, "holder": "peer_b", "shard": 1,
            "data_shards": 3, "seconds": 0.5}


@pytest.mark.parametrize(("body", "kind", "fields"), [
    (do.SnapshotBody(**SNAPSHOT), broker_ev.SnapshotStored, SNAPSHOT),
    (do.StandbyBody(level="warm"), broker_ev.StandbyReady, {"level": "warm"}),
    (do.StandbyBody(level="store", problem="no room"), broker_ev.StandbyReady,
     {"level": "store", "problem": "no room"}),
    (do.PaceBody(microbatch_s=0.25, microbatches=16), broker_ev.SegmentPace,
     {"microbatch_s": 0.25, "microbatches": 16}),
], ids=["snapshot", "standby", "broken standby", "pace"])
def test_reports_arrive_at_the_broker(body, kind, fields):
    message = report_message(do.SendReport(number=3, **LEASE, body=body))
    assert report_event("peer_a", message.report) == kind(
        at_ns=0, peer_id="peer_a", number=3, **LEASE, **fields)


def test_a_lost_neighbour_arrives_at_the_broker():
    body = do.NeighbourLostBody(neighbour=0, peer_id="peer_b", code="UNREACHABLE", message="gone")
    message = report_message(do.SendReport(number=3, **LEASE, body=body))
    event = report_event("peer_a", message.report)
    assert isinstance(event, broker_ev.NeighbourLost)
    assert (event.neighbour, event.blamed_peer, event.code, event.message) == (
        0, "peer_b", "UNREACHABLE", "gone")


def test_a_registration_names_the_newest_snapshots():
    held = [HeldSnapshot("job_000001", 0, position, DIGEST, 9, 0, 1)
            for position in range(HELD_SNAPSHOTS_MAX + 5)]
    named = held_snapshots(held)
    assert len(named) == HELD_SNAPSHOTS_MAX
    assert {item.position for item in named} == set(range(5, HELD_SNAPSHOTS_MAX + 5))


def test_an_owners_wish_is_told():
    told = availability_message(ev.Availability.PAUSED, 7)
    assert (told.availability, told.deadline_ms) == ("paused", 7)


def test_why_there_is_no_work_is_bounded():
    said = session_pb2.NoWork(reasons=[session_pb2.NoWorkReason(
        rule="memory", jobs=-1, text="x" * 10_000, change="lend more")] * 100)
    found = no_work_of(said)
    assert len(found) == 16
    assert found[0] == {
        "rule": "memory", "jobs": 0, "text": "x" * 500, "change": "lend more"}
