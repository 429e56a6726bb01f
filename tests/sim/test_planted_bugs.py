"""Defects that were planted on purpose: the simulation must find every one of them.

A net that lets one through is not worth its seeds. Each defect is a small change of the real cores,
as somebody might make it; found means that a run raises, does not end, or ends with another lineage
than the undisturbed one. The first seed that finds it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import broker.core.events
import broker.core.jobs
import broker.core.leases
import broker.core.membership
import broker.core.recut
import broker.core.reports
import broker.core.snapshots
import broker.core.state
import broker.core.takeover
import peer.core.arrivals
import peer.core.machine
import peer.core.phases
import peer.core.reports
import peer.core.snapshots
from broker.core.invariants import InvariantViolation as BrokerBroken
from peer.core import commands as do
from peer.core.arrivals import Verdict
from peer.core.invariants import InvariantViolation as PeerBroken
from sim.executor import ExecutorMisused
from sim.network import (
    MOST,
    NAMES,
    check_applied_once,
    check_success,
    disturbed,
    outcome,
    undisturbed,
)
from sim.world import SECOND
from tests.sim.test_growth import run as grow
from tests.sim.test_growth import work_of

SEEDS = 12
"""Runs that a defect may hide in."""
FOUND = (AssertionError, BrokerBroken, PeerBroken, ExecutorMisused)
"""How a run can end that has found something."""

Patch = pytest.MonkeyPatch


def run(seed: int) -> None:
    """One disturbed job; raises what is wrong with it."""
    network = disturbed(seed)
    network.world.after(60 * SECOND, lambda: setattr(network, "is_calm", True))
    work = {"steps": 20, "evaluate_every": 5, "clip_norm": float(seed % 2)}
    network.submit("s1", **work)
    assert network.world.run(lambda: network.all_ended(1), MOST // 4), "no end"
    job = network.jobs()[0]
    check_success(job)
    check_applied_once(network, job)
    assert outcome(network) == undisturbed(seed % len(NAMES), tuple(work.items()))


@pytest.fixture(scope="module", autouse=True)
def _references() -> None:
    """Have `undisturbed` remember what the sound cores make of each job: nothing is planted yet."""
    for number in NAMES:
        for clips in (0.0, 1.0):
            undisturbed(number, (("steps", 20), ("evaluate_every", 5), ("clip_norm", clips)))
            undisturbed(number, tuple(work_of(int(clips) * len(NAMES) + number).items()))


def altered(commands: Callable[..., Any], kind: type, **shifts: Any) -> Callable[..., Any]:
    """What a function of a core asks for, with numbers of one kind of command changed."""
    def ask(*args: Any) -> Iterator[Any]:
        for command in commands(*args):
            if isinstance(command, kind):
                yield replace(command, **{
                    name: shift(getattr(command, name)) for name, shift in shifts.items()})
            else:
                yield command

    return ask


def token_used_again(patch: Patch) -> None:
    """A takeover does not count the token on."""
    grant = broker.core.takeover.grant

    def again(turn: Any, *args: Any) -> Any:
        turn.state.last_token -= 1
        return grant(turn, *args)

    patch.setattr(broker.core.takeover, "grant", again)


def restored_one_late(patch: Patch) -> None:
    """A restored segment goes on one step too late."""
    at = peer.core.phases.PhaseOrder.at
    patch.setattr(peer.core.phases.PhaseOrder, "at",
                  lambda self, position: at(self, position + (position > 0)))


def restored_without_state(patch: Patch) -> None:
    """A takeover begins with the job's first parameters."""
    patch.setattr(peer.core.machine.Peer, "_assignment_received", altered(
        peer.core.machine.Peer._assignment_received, do.LoadSegment,
        position=lambda position: 0, snapshot=lambda source: None))


def duplicates_taken(patch: Patch) -> None:
    """What was here before is given to the executor once more."""
    judge = peer.core.arrivals.when_due
    patch.setattr(peer.core.arrivals, "when_due", lambda *args: (
        Verdict.TAKE if (verdict := judge(*args)) is Verdict.DROP else verdict))


def early_dropped(patch: Patch) -> None:
    """What is too early is dropped in place of being held."""
    judge = peer.core.arrivals.when_due
    patch.setattr(peer.core.arrivals, "when_due", lambda *args: (
        Verdict.DROP if (verdict := judge(*args)) is Verdict.HOLD else verdict))


def log_cut_too_early(patch: Patch) -> None:
    """A peer forgets some more than what the complete position allows."""
    patch.setattr(peer.core.snapshots, "completed", altered(
        peer.core.snapshots.completed, do.ForgetBefore, position=lambda position: position + 2))


def complete_too_early(patch: Patch) -> None:
    """A position counts as complete as soon as one segment has a snapshot of it."""
    def complete(turn: Any, job: Any) -> None:
        newest = max(max(known, default=0) for known in job.snapshots)
        if newest > job.position:
            job.position = newest
            for lease in job.leases:
                command = broker.core.snapshots.completion(turn, job, lease)
                if command is not None:
                    turn.emit(command)

    patch.setattr(broker.core.snapshots, "_complete", complete)


def replays_not_waited_for(patch: Patch) -> None:
    """The complete position passes a segment that is still being replayed."""
    complete = broker.core.snapshots._complete

    def passing(turn: Any, job: Any) -> None:
        before = [lease.steps_done for lease in job.leases]
        for lease in job.leases:
            lease.steps_done = job.spec.training.steps
        complete(turn, job)
        for lease, steps in zip(job.leases, before, strict=True):
            lease.steps_done = steps

    patch.setattr(broker.core.snapshots, "_complete", passing)


def losses_counted_again(patch: Patch) -> None:
    """The broker adds the losses of repeated steps once more."""
    count = broker.core.reports._count_steps

    def again(turn: Any, job: Any, lease: Any, peer: Any, event: Any) -> None:
        repeated = event.losses[: max(0, len(job.losses) - event.first_step)]
        count(turn, job, lease, peer, event)
        job.losses.extend(repeated)
        job.losses_at_ns.extend([turn.now_ns] * len(repeated))

    patch.setattr(broker.core.reports, "_count_steps", again)


def members_not_told(patch: Patch) -> None:
    """Nobody hears of a new holder."""
    patch.setattr(broker.core.takeover, "tell_all", lambda turn, job: None)


def members_not_heard(patch: Patch) -> None:
    """A segment at work does not listen to who its neighbours are now."""
    patch.setattr(peer.core.machine, "AFTER_START", ())


def applied_before_durable(patch: Patch) -> None:
    """News of snapshots is applied but not journalled."""
    journalled = broker.core.events.is_journalled
    patch.setattr(broker.core.events, "is_journalled", lambda event: journalled(event)
                  and not isinstance(event, broker.core.events.SnapshotStored))


def reports_dropped(patch: Patch) -> None:
    """A peer forgets what it has to tell while the broker is away."""
    add = peer.core.reports.ReportQueue.add
    patch.setattr(peer.core.reports.ReportQueue, "add", lambda self, *args: (
        add(self, *args) if self.is_connected else []))


def vacant_not_retried(patch: Patch) -> None:
    """A job that has found no peer is not looked at again."""
    recover = broker.core.takeover.recover

    def once(turn: Any, job: Any, to: Any = None) -> None:
        if not job.reason:
            recover(turn, job, to)

    patch.setattr(broker.core.takeover, "recover", once)


def wrong_position_snapshot(patch: Patch) -> None:
    """A snapshot carries the number of the step after it."""
    patch.setattr(peer.core.snapshots, "due", altered(
        peer.core.snapshots.due, do.TakeSnapshot, position=lambda position: position + 1))


def part_left_out(patch: Patch) -> None:
    """A segment of a new cut misses the state of some of its parameters."""
    joined = broker.core.snapshots._joined

    def without(*args: Any) -> Any:
        record = joined(*args)
        return replace(record, parts=record.parts[1:] or record.parts)

    patch.setattr(broker.core.snapshots, "_joined", without)


def parts_not_read(patch: Patch) -> None:
    """A segment of a new cut begins with the job's first parameters."""
    patch.setattr(peer.core.machine.Peer, "_assignment_received", altered(
        peer.core.machine.Peer._assignment_received, do.LoadSegment, parts=lambda parts: ()))


def old_cut_goes_on(patch: Patch) -> None:
    """Segments of the cut before are not taken back."""
    def leave(turn: Any, job: Any, lease: Any, why: str) -> None:
        lease.phase = broker.core.state.LeasePhase.RELEASED
        del turn.state.peers[lease.peer_id].leases[lease.token]
        if job.state is broker.core.state.JobState.RUNNING:
            broker.core.jobs.move(job, broker.core.state.JobState.RECOVERING)

    patch.setattr(broker.core.recut, "vacate", leave)


def replans_not_durable(patch: Patch) -> None:
    """What the planner said of a running job is applied but not journalled."""
    journalled = broker.core.events.is_journalled
    patch.setattr(broker.core.events, "is_journalled", lambda event: journalled(event)
                  and not isinstance(event, broker.core.events.JobReplanned))


PLANTED: tuple[Callable[[Patch], None], ...] = (
    token_used_again, restored_one_late, restored_without_state, duplicates_taken,
    early_dropped, log_cut_too_early, complete_too_early, replays_not_waited_for,
    losses_counted_again, members_not_told, members_not_heard, applied_before_durable,
    reports_dropped, vacant_not_retried, wrong_position_snapshot,
)


PLANTED_IN_RECUTS: tuple[Callable[[Patch], None], ...] = (
    part_left_out, parts_not_read, old_cut_goes_on, replans_not_durable)


@pytest.mark.parametrize(("plant", "run"), [
    *((plant, run) for plant in PLANTED), *((plant, grow) for plant in PLANTED_IN_RECUTS),
], ids=lambda part: part.__name__)
def test_a_planted_bug_is_found(
    plant: Callable[[Patch], None], run: Callable[[int], object], monkeypatch: Patch
) -> None:
    plant(monkeypatch)
    for seed in range(1, SEEDS + 1):
        try:
            run(seed)
        except FOUND as found:
            print(f"{plant.__name__}: seed {seed}: {type(found).__name__}: {str(found)[:200]}")
            return
    pytest.fail(f"{plant.__name__} went through {SEEDS} runs unseen")


def test_the_sound_cores_pass() -> None:
    """Else finding something means nothing."""
    for seed in range(1, 7):
        print(f"seed {seed}")
        run(seed)


