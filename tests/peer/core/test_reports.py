"""Reports: numbered without gap, merged while the broker is away, sent until acknowledged."""

from __future__ import annotations

from peer.core import commands as do
from peer.core import events as ev
from peer.core.reports import MERGED_STEPS_MAX, ReportQueue
from peer.core.state import LeasePhase

LEASE = ("job_000001", 0, 7)


def steps(first: int, count: int = 1) -> do.StepsBody:
    losses = tuple(float(first + i) for i in range(count))
    return do.StepsBody(first_step=first, count=count, losses=losses)


def numbers(reports: list[do.SendReport]) -> list[int]:
    return [report.number for report in reports]


def test_a_connected_queue_sends_at_once_and_keeps():
    queue = ReportQueue()
    queue.connect(0)
    assert numbers(queue.add(*LEASE, steps(0)) + queue.add(*LEASE, steps(1))) == [1, 2]
    assert numbers(queue.pending) == [1, 2]
    assert numbers(queue.acknowledge(1)) == [1]
    assert numbers(queue.pending) == [2]


def test_steps_merge_while_the_broker_is_away():
    queue = ReportQueue()
    queue.connect(0)
    queue.add(*LEASE, steps(0))
    queue.disconnect()
    for step in (1, 2, 3):
        assert not queue.add(*LEASE, steps(step))
    queue.add(*LEASE, do.EvaluationBody(step=4, loss=1.0))
    queue.add(*LEASE, steps(4))
    queue.add(*LEASE, steps(5))
    assert [r.body for r in queue.connect(0)] == [
        steps(0), steps(1, 3), do.EvaluationBody(step=4, loss=1.0), steps(4, 2)]
    assert numbers(queue.pending) == [1, 2, 3, 4]


def test_what_was_sent_never_changes():
    """The broker may have journalled it although no acknowledgement came."""
    queue = ReportQueue()
    queue.add(*LEASE, steps(0))
    queue.connect(0)
    queue.disconnect()
    queue.add(*LEASE, steps(1))
    queue.add(*LEASE, steps(2))
    assert [r.body for r in queue.pending] == [steps(0), steps(1, 2)]


def test_reports_of_other_leases_do_not_merge():
    queue = ReportQueue()
    queue.add(*LEASE, steps(0))
    queue.add("job_000001", 0, 8, steps(0))
    queue.add("job_000001", 1, 8, steps(0))
    queue.add("job_000002", 1, 8, steps(0))
    assert len(queue.pending) == 4


def test_a_merged_report_stays_a_message_that_can_be_sent():
    queue = ReportQueue()
    for first in range(0, 2 * MERGED_STEPS_MAX + 500, 101):
        queue.add(*LEASE, steps(first, 101))
    assert [r.body.count < MERGED_STEPS_MAX + 101 for r in queue.pending] == [True] * 3
    merged = [loss for r in queue.pending for loss in r.body.losses]
    assert merged == [float(i) for i in range(len(merged))]


def test_a_reconnect_sends_only_what_the_broker_lacks(rig, bodies):
    peer = rig("one", microbatches=1)
    peer.run()
    peer.apply(ev.BrokerDisconnected)
    for _ in range(4):
        peer.done()
    commands = peer.apply(ev.BrokerConnected, last_report=1)
    assert bodies(commands) == [do.StepsBody(first_step=0, count=1, losses=(0.5,))]
    assert not bodies(peer.apply(ev.BrokerConnected, last_report=2))


def test_a_new_process_counts_on_from_the_broker(rig):
    peer = rig("one")
    peer.apply(ev.BrokerConnected, last_report=57)
    peer.assign()
    (ready,) = peer.on(ev.SegmentLoaded)
    assert ready.number == 58


def test_reports_made_before_the_first_welcome_are_numbered_anew():
    queue = ReportQueue()
    queue.add(*LEASE, do.ReadyBody())
    queue.add(*LEASE, steps(0))
    assert numbers(queue.connect(57)) == [58, 59]
    assert numbers(queue.add(*LEASE, steps(1))) == [60]


def finished(rig):
    peer = rig("one", microbatches=1, steps=1)
    peer.run()
    for _ in range(4):
        peer.done()
    peer.on(ev.ResultStored, digest="d" * 64, size_bytes=5)
    assert peer.lease.phase is LeasePhase.FINISHED
    return peer


def test_a_finish_that_is_acknowledged_is_forgotten_and_the_lease_stays(rig):
    peer = finished(rig)
    assert not peer.apply(ev.ReportsAcknowledged, through_number=3)
    assert not peer.peer.state.reports.pending
    assert peer.lease.phase is LeasePhase.FINISHED


def test_a_welcome_acknowledges_too(rig, kinds):
    """The acknowledgement itself was lost with the stream."""
    peer = finished(rig)
    peer.apply(ev.BrokerDisconnected)
    assert kinds(peer.apply(ev.BrokerConnected, last_report=3)) == ["TellAvailability"]
    assert peer.lease.phase is LeasePhase.FINISHED
