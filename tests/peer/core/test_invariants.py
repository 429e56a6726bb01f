"""Each invariant sees what it is for, and tells the story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from peer.core import events as ev
from peer.core import invariants
from peer.core.arrivals import HELD_MAX
from peer.core.commands import ReadyBody
from peer.core.invariants import InvariantViolation
from peer.core.phases import Mode
from peer.core.state import LeasePhase, StandbyRecord


def run_of(peer):
    return peer.lease.run


def early() -> ev.TensorReceived:
    """A gradient for which a forward must end first."""
    return ev.TensorReceived(
        at_ns=0, job_id="job_000001", segment=0, token=7, arrival=1, kind=ev.TensorKind.GRADIENT,
        edge=0, mode=Mode.TRAIN, step=1, microbatch=0)


def standby(token: int) -> StandbyRecord:
    return StandbyRecord(ev.StandByReceived(
        at_ns=0, job_id="job_000001", segment=0, token=token, spec=None, program=None,
        in_flight=1, segments=2, stall_timeout_ms=1, level=ev.StandbyLevel.HOT, source=""))


BROKEN: dict[str, Callable] = {
    "P1": lambda peer: peer.peer.state.leases.__setitem__(("other", 0), peer.lease),
    "P2": lambda peer: setattr(peer.lease, "is_revoked", True),
    "P3 flying": lambda peer: setattr(run_of(peer), "forwarded", 5),
    "P3 retired": lambda peer: setattr(run_of(peer), "retired", 1),
    "P4 over": lambda peer: setattr(run_of(peer), "phase", None),
    "P4 steps": lambda peer: setattr(peer.lease, "steps_done", 1),
    "P5": lambda peer: setattr(peer.lease, "phase", LeasePhase.READY),
    "P6 gap": lambda peer: setattr(peer.peer.state.reports, "next_number", 9),
    "P6 unsent": lambda peer: peer.peer.state.reports.pending.extend(
        peer.peer.state.reports.pending),
    "P7": lambda peer: (setattr(peer.peer.state, "busy", None),
                        setattr(peer.lease, "waiting", object()),
                        setattr(peer.lease, "phase", LeasePhase.READY)),
    "P8": lambda peer: run_of(peer).arrived.add(
        (ev.TensorKind.GRADIENT, 9, Mode.TRAIN, 0, 0)),
    "P8 norms": lambda peer: peer.lease.gathering.by_step.update({0: {}, 1: {}, 2: {}}),
    "P9 early": lambda peer: setattr(run_of(peer), "measured", True),
    "P9 scale": lambda peer: (setattr(run_of(peer), "forwarded", 1),
                              setattr(run_of(peer), "retired", 1),
                              setattr(run_of(peer), "scale", 1.0)),
    "P10 over": lambda peer: (peer.lease.held.append(early()),
                              setattr(peer.peer.state, "busy", None),
                              setattr(peer.lease, "phase", LeasePhase.CLOSING)),
    "P10 due": lambda peer: peer.lease.held.append(replace(early(), microbatch=0, step=0)),
    "P10 many": lambda peer: peer.lease.held.extend([early()] * (HELD_MAX + 1)),
    "P11 steps": lambda peer: setattr(
        peer.lease, "assignment", replace(peer.lease.assignment, position=1)),
    "P11 complete": lambda peer: setattr(peer.lease, "complete", -1),
    "P12": lambda peer: peer.peer.state.standbys.update({("other", 0): standby(9)}),
    "P12 token": lambda peer: peer.peer.state.standbys.update({("job_000001", 0): standby(7)}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_invariant_is_seen(rig, name: str):
    peer = rig("two", 0, microbatches=1)
    peer.run()
    invariants.check(peer.peer.state)
    BROKEN[name](peer)
    with pytest.raises(InvariantViolation, match=f"^{name.split()[0]}:"):
        invariants.check(peer.peer.state)


def test_a_violation_tells_the_story(rig):
    peer = rig("one")
    peer.run()
    report = peer.peer.state.reports.pending[0]
    peer.peer.state.reports.pending.append(replace(report, body=ReadyBody()))
    with pytest.raises(InvariantViolation) as caught:
        peer.peer.apply(ev.TimerFired(at_ns=0))
    assert [line.split("(")[0] for line in caught.value.story] == [
        "0 BrokerConnected", "0 AssignmentReceived", "0 SegmentLoaded", "0 StartReceived",
        "0 TimerFired"]
    assert "-> LoadSegment" in caught.value.story[1]
    assert "0 StartReceived" in str(caught.value)
