"""When snapshots are taken, and what is said of them."""

from __future__ import annotations

import pytest

from peer.core import commands as do
from peer.core import events as ev
from peer.core.phases import Mode
from sim.topologies import TOPOLOGIES, inference_spec_of, segments_of

HOLDER = ev.Holder(peer_id="peer_8", address="there:1")
HELD = {"position": 2, "digest": "5" * 64, "size_bytes": 9, "holder": "peer_8", "shard": 0,
        "data_shards": 1, "seconds": 0.5}


def plan(peer, interval: int, holders=(HOLDER,), data_shards: int = 1):
    return peer.on(ev.SnapshotPlanReceived, interval=interval, holders=holders,
                   data_shards=data_shards)


def positions(commands) -> list[int]:
    return [c.position for c in commands if isinstance(c, do.TakeSnapshot)]


def test_at_multiples_of_the_interval_while_anything_is_left(rig, kinds):
    peer = rig("one", steps=6, microbatches=1)
    peer.run()
    plan(peer, 2)
    taken = []
    while peer.busy:
        commands = peer.done()
        if positions(commands):
            taken += positions(commands)
            names = kinds(commands)
            assert names.index("TakeSnapshot") < names.index("RunTask")
    assert taken == [2, 4], "after the last step the result is stored"


def test_the_state_of_a_step_is_taken_before_its_evaluation(rig):
    peer = rig("one", steps=1, microbatches=1, evaluate_every=1, evaluation_microbatches=1)
    peer.run()
    plan(peer, 1)
    taken = []
    while peer.busy:
        commands = peer.done()
        taken += [(p, peer.busy) for p in positions(commands)]
    assert taken == [(1, "E0")]


def test_none_without_a_plan_and_none_of_the_position_it_began_at(rig):
    peer = rig("one", steps=6, microbatches=1)
    peer.run(position=2)
    for _ in range(4):
        assert not positions(peer.done())
    plan(peer, 4)
    for _ in range(3):
        assert not positions(peer.done())
    assert positions(peer.done()) == [4]


def test_holders_are_told_to_the_shell_when_they_change(rig, kinds):
    peer = rig("one")
    peer.assign()
    assert kinds(plan(peer, 2)) == ["SetHolders"]
    assert not plan(peer, 3), "only the interval"
    assert peer.lease.interval == 3
    assert kinds(plan(peer, 3, data_shards=4)) == ["SetHolders"]
    assert kinds(plan(peer, 3, holders=())) == ["SetHolders"]


def test_every_holder_is_reported(rig, bodies):
    peer = rig("one")
    peer.run()
    assert bodies(peer.on(ev.SnapshotHeld, **HELD)) == [do.SnapshotBody(**HELD)]
    peer.on(ev.RevokeReceived, reason="r")
    assert not peer.on(ev.SnapshotHeld, **HELD)


def test_a_failed_snapshot_is_noted_and_the_segment_goes_on(rig):
    peer = rig("one")
    peer.run()
    assert not peer.on(ev.SnapshotFailed, position=2, code="DISK_FULL", message="no room")
    assert peer.lease.snapshot_problem == "position 2: no room [DISK_FULL]"
    assert peer.busy == "F0"
    peer.on(ev.SnapshotHeld, **HELD)
    assert peer.lease.snapshot_problem == ""


def test_the_complete_position_never_goes_back(rig):
    peer = rig("one", steps=9)
    peer.run(position=2)
    forgotten = []
    for position in (2, 4, 3, 4, 1, 6):
        commands = peer.on(ev.SnapshotCompleted, position=position)
        forgotten += [c.position for c in commands if isinstance(c, do.ForgetBefore)]
    assert forgotten == [4, 6]


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_of_an_inference_at_microbatches_that_are_through(rig, interval: int):
    """Though later ones are predicted already: they are no part of it."""
    first = rig("two", 0, in_flight=4)
    first.spec = inference_spec_of(2, rows=14)
    first.segments = segments_of(*TOPOLOGIES["two"], "infer")
    first.run()
    plan(first, interval)
    for _ in range(4):
        first.done()
    taken = []
    for microbatch in range(7):
        taken += positions(first.tensor("acknowledge", 0, microbatch, mode=Mode.INFER))
        if first.busy:
            taken += positions(first.done())
    assert taken == [p for p in range(1, 7) if p % interval == 0]
    assert first.lease.run.phase is None


def test_the_broker_knows_of_the_microbatches_of_a_snapshot(rig, bodies):
    """Else it would take the snapshot of a position that it has not heard of."""
    first = rig("one", 0)
    first.spec = inference_spec_of(1, rows=2 * 1_000)
    first.segments = segments_of(*TOPOLOGIES["one"], "infer")
    first.run()
    plan(first, 7)
    reports = []
    for _ in range(21):
        reports += [(b.first_step, b.count) for b in bodies(first.done())]
    assert reports == [(0, 7), (7, 3), (10, 4), (14, 6), (20, 1)]


def test_a_stale_plan_changes_nothing(rig):
    peer = rig("one")
    peer.run()
    for event, fields in (
        (ev.SnapshotPlanReceived, {"interval": 1, "holders": (HOLDER,), "data_shards": 1}),
        (ev.SnapshotCompleted, {"position": 3}),
        (ev.SnapshotHeld, HELD),
        (ev.SnapshotFailed, {"position": 3, "code": "INTERNAL", "message": "m"}),
    ):
        assert not peer.on(event, token=6, **fields)
    assert (peer.lease.interval, peer.lease.complete, peer.lease.snapshot_problem) == (0, 0, "")
