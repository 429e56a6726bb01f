"""Commands as messages: every field arrives, and a peer of before sees what it knows."""

from broker.core import commands as do
from broker.rpc.command_codec import message_of
from dag.job import JobSpec, OptimizerSpec, TrainingSpec
from homespun.wire import from_message
from ir.segment import Segment

SEGMENT = Segment(
    index=1, nodes=(3, 4), parameters=("w",), data_inputs=(), incoming=(), outgoing=(),
    has_loss=True)
SPEC = JobSpec(
    name="tiny", graph_digest="0" * 64, graph_bytes=10, parameters=(), columns=(),
    training=TrainingSpec(steps=5, batch_size=4, microbatches=2, seed=0,
                          optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1)))
HOLDERS = (do.Holder(peer_id="peer_b", address="10.0.0.2:7"),
           do.Holder(peer_id="peer_c", address="10.0.0.3:7", shard=2))
WHERE = {"peer_id": "peer_a", "job_id": "job_000001", "token": 9}
SENT = {"spec": SPEC, "segment": SEGMENT, "in_flight": 2, "segments": 3,
        "stall_timeout_ms": 120_000}


def plain(message):
    """The fields of a message that are no messages."""
    return {field.name: value for field, value in message.ListFields()
            if field.message_type is None}


def check_sent(message):
    assert from_message(message.spec, JobSpec) == SPEC
    assert from_message(message.segment, Segment) == SEGMENT
    assert (message.job_id, message.token, message.in_flight, message.segments) == (
        "job_000001", 9, 2, 3)
    assert message.stall_timeout_ms == 120_000


def test_an_assignment_from_the_beginning_has_no_snapshot():
    assign = message_of(do.AssignSegment(**WHERE, **SENT)).assign
    check_sent(assign)
    assert assign.position == 0
    assert not assign.HasField("snapshot")


def test_an_assignment_further_on_says_where_its_snapshot_is():
    source = do.SnapshotSource(
        digest="ab" * 32, size_bytes=4096, data_shards=2, holders=HOLDERS)
    assign = message_of(do.AssignSegment(**WHERE, **SENT, position=40, snapshot=source)).assign
    check_sent(assign)
    assert assign.position == 40
    assert from_message(assign.snapshot, do.SnapshotSource) == source


def test_an_assignment_of_a_new_cut_says_what_has_its_state_together():
    parts = tuple(
        do.SnapshotPart(serial=serial, source=do.SnapshotSource(
            digest=f"{serial:064x}", size_bytes=4096, data_shards=2, holders=HOLDERS))
        for serial in (4, 3))
    assign = message_of(do.AssignSegment(
        **WHERE, **SENT, position=40, parts=parts, first_serial=5)).assign
    check_sent(assign)
    assert not assign.HasField("snapshot")
    assert tuple(from_message(part, do.SnapshotPart) for part in assign.parts) == parts
    assert assign.first_serial == 5


def test_a_standby():
    stand_by = message_of(do.StandBy(
        **WHERE, **SENT, level="warm", source="peer_b", first_serial=5)).stand_by
    check_sent(stand_by)
    assert (stand_by.level, stand_by.source, stand_by.first_serial) == ("warm", "peer_b", 5)


def test_a_plan_of_snapshots():
    plan = message_of(do.PlanSnapshots(
        **WHERE, segment=1, interval=20, holders=HOLDERS, data_shards=2)).snapshot_plan
    assert plain(plan) == {
        "job_id": "job_000001", "segment": 1, "token": 9, "interval": 20, "data_shards": 2}
    assert tuple(from_message(holder, do.Holder) for holder in plan.holders) == HOLDERS


def test_a_complete_snapshot():
    complete = message_of(do.CompleteSnapshot(**WHERE, segment=1, position=40)).snapshot_complete
    assert plain(complete) == {
        "job_id": "job_000001", "segment": 1, "token": 9, "position": 40}


def test_a_start_names_every_member_and_where_nobody_is():
    members = (
        do.Member(segment=0, peer_id="", token=4, tensor_address="", position=0),
        do.Member(segment=1, peer_id="peer_a", token=9, tensor_address="h:1", position=40))
    start = message_of(do.StartJob(**WHERE, segment=1, members=members)).start
    assert tuple(from_message(member, do.Member) for member in start.members) == members
    assert plain(start) == {"job_id": "job_000001", "segment": 1, "token": 9}


def test_commands_of_before():
    revoke = message_of(do.RevokeSegment(**WHERE, segment=1, reason="it moves")).revoke
    assert plain(revoke) == {
        "job_id": "job_000001", "segment": 1, "token": 9, "reason": "it moves"}
    measure = message_of(do.MeasureLink(
        peer_id="peer_a", to_peer="peer_b", tensor_address="h:1")).measure_link
    assert (measure.to_peer, measure.tensor_address) == ("peer_b", "h:1")
    assert measure.probe_bytes > 0
    durable = message_of(do.AcknowledgeReports(peer_id="peer_a", through_number=3))
    assert durable.reports_durable.through_number == 3
