"""The broker's one mutator: `Broker.apply(event) -> commands`.

The shell's order: take events, append the journalled ones to the journal (durable), `apply` each,
carry out its commands in order. A restart applies the journal again and drops the commands, then
sends `BrokerStarted`; what is still wanted is issued again as peers come back.

Bad input never raises: a person gets a `Reject`, the operator's log a `Note`. What raises is
`InvariantViolation`: a defect in here. docs/broker-state.md has the diagrams.
"""

from __future__ import annotations

from typing import assert_never

from broker.core import (
    drain,
    growth,
    invariants,
    jobs,
    keys,
    links,
    losses,
    membership,
    partial,
    planning,
    pool,
    readiness,
    reports,
    restoring,
    standing,
    takeover,
)
from broker.core.audit import AuditLog
from broker.core.commands import AnyCommand
from broker.core.event_log import EventLog
from broker.core.events import (
    AnyEvent,
    AvailabilityChanged,
    BackupsRanked,
    BrokerStarted,
    CancelRequested,
    ConsoleAccessed,
    DrainRequested,
    EnrolmentRequested,
    EvaluationDone,
    HeartbeatsSeen,
    JobReplanned,
    JobSubmitted,
    JournalRestored,
    KeyCreated,
    KeyRevoked,
    LateRenewalRequested,
    LinkMeasured,
    MemberBanned,
    NeighbourLost,
    PeerAdmitted,
    PeerConnected,
    PeerDisconnected,
    PeerForgotten,
    PeerLabelled,
    PieceStored,
    PlacementSolved,
    PlanningFailed,
    SegmentFailed,
    SegmentFinished,
    SegmentPace,
    SegmentReady,
    SegmentReleased,
    SnapshotStored,
    StandbyReady,
    StepsDone,
    TimerFired,
    TransfersMeasured,
)
from broker.core.invariants import InvariantViolation
from broker.core.state import State, Turn
from broker.core.story import Stories, subjects
from broker.core.timeline import Timelines


class Broker:
    """The broker core. See the module docstring for its contract with the shell.

    Attributes:
        state: private to `broker.core`; others ask `views`.
        stories: what happened last to each job and peer.
        events: what people were told, over all jobs and peers.
        audit: what operators did.
        timelines: who had which segment, and when.
    """

    def __init__(self) -> None:
        self.state = State()
        self.stories = Stories()
        self.events = EventLog()
        self.audit = AuditLog()
        self.timelines = Timelines()

    def apply(self, event: AnyEvent) -> tuple[AnyCommand, ...]:
        """Take one event into account and return what to do about it, in order.

        A time before that of an earlier event counts as that one's: time never goes back.

        Raises:
            InvariantViolation: a defect of the core, with the story of those concerned.

        Cost: O(peers log peers + unfinished jobs) at worst; O(segments of the job) for a report.
        """
        if isinstance(event, HeartbeatsSeen):
            # Not in the journal, so it must leave no trace that a replay would miss: no time, even.
            membership.heartbeats(self.state, event)
            return ()
        last_ns = self.state.now_ns
        self.state.now_ns = max(last_ns, event.at_ns)
        turn = Turn(self.state, self.state.now_ns - last_ns)
        try:
            _dispatch(turn, event)
            takeover.retry_waiting(turn)
            drain.empty_peers(turn)
            partial.advance(turn)
            planning.plan_next(turn)
            growth.consider(turn)
            pool.review_all(turn)
            touched = subjects(event, turn.commands)
            self._check(touched)
        except InvariantViolation as violation:
            raise self._with_story(event, turn, violation.message) from violation
        except Exception as error:
            message = f"{type(error).__name__} in the core: {error}"
            raise self._with_story(event, turn, message) from error
        self.stories.record(touched, event, turn.commands)
        self.events.record(self.state.now_ns, turn.commands)
        self.audit.record(self.state.now_ns, event, turn.commands)
        self.timelines.record(self.state, touched)
        return tuple(turn.commands)

    def next_wakeup_ns(self) -> int | None:
        """When the shell must send `timer(now)`, at the latest; None while nothing can fall due.

        May lie in the past: then at once. Cost: O(peers + unfinished jobs).
        """
        state = self.state
        jobs_waiting = state.unfinished.values()
        times = [
            at_ns for job in jobs_waiting
            for at_ns in (job.deadline_ns, job.fallback_ns, losses.next_deadline_ns(job),
                          readiness.next_deadline_ns(job), growth.next_deadline_ns(job))
            if at_ns is not None]
        of_others = (membership.next_deadline_ns(state), partial.next_deadline_ns(state))
        times += [at_ns for at_ns in of_others if at_ns is not None]
        if state.settle_until_ns > state.now_ns and state.unfinished:
            times.append(state.settle_until_ns)
        return min(times, default=None)

    def timer(self, at_ns: int) -> TimerFired:
        """The event for a wake-up at `at_ns`, with what the heartbeats say about silence."""
        return TimerFired(at_ns=at_ns, silent_peers=membership.silent_peers(self.state, at_ns))

    def _check(self, touched: list[str]) -> None:
        for subject in touched:
            if subject in self.state.jobs:
                invariants.check_job(self.state, self.state.jobs[subject])
            if subject in self.state.peers:
                invariants.check_peer(self.state, self.state.peers[subject])

    def _with_story(self, event: AnyEvent, turn: Turn, message: str) -> InvariantViolation:
        touched = subjects(event, turn.commands)
        self.stories.record(touched, event, turn.commands)
        lines = [
            f"  {subject}: {line}" for subject in touched for line in self.stories.of(subject)]
        return InvariantViolation(message, tuple(lines))


def _dispatch(turn: Turn, event: AnyEvent) -> None:
    match event:
        case BrokerStarted():
            membership.broker_started(turn, event)
        case KeyCreated():
            keys.created(turn, event)
        case KeyRevoked():
            keys.revoked(turn, event)
        case EnrolmentRequested():
            keys.enrolment_requested(turn, event)
        case LateRenewalRequested():
            standing.late_renewal_requested(turn, event)
        case PeerConnected():
            membership.connected(turn, event)
        case PeerDisconnected():
            membership.disconnected(turn, event)
        case HeartbeatsSeen():
            membership.heartbeats(turn.state, event)
        case LinkMeasured():
            links.measured(turn, event)
        case TransfersMeasured():
            links.transferred(turn, event)
        case JobSubmitted():
            jobs.submitted(turn, event)
        case CancelRequested():
            jobs.cancel_requested(turn, event)
        case PlacementSolved():
            planning.solved(turn, event)
        case PlanningFailed():
            planning.planning_failed(turn, event)
        case (
            SegmentReady() | StepsDone() | EvaluationDone() | SegmentFailed() | SegmentFinished()
            | SegmentReleased() | SnapshotStored() | NeighbourLost() | StandbyReady()
            | SegmentPace()
        ):
            reports.reported(turn, event)
        case AvailabilityChanged():
            drain.availability_changed(turn, event)
        case DrainRequested():
            drain.drain_requested(turn, event)
        case BackupsRanked():
            pool.ranked(turn, event)
        case PeerAdmitted():
            standing.admitted(turn, event)
        case MemberBanned():
            standing.banned(turn, event)
        case PeerLabelled():
            standing.labelled(turn, event)
        case PeerForgotten():
            standing.forgotten(turn, event)
        case JournalRestored():
            restoring.restored(turn, event)
        case ConsoleAccessed():
            pass  # for the audit log only
        case JobReplanned():
            growth.replanned(turn, event)
        case PieceStored():
            partial.answered(turn, event)
        case TimerFired():
            _time_passed(turn, event)
        case _:
            assert_never(event)


def _time_passed(turn: Turn, event: TimerFired) -> None:
    membership.time_passed(turn, frozenset(event.silent_peers))
    losses.judge(turn)
    readiness.time_passed(turn)
    for job in list(turn.state.unfinished.values()):
        if job.deadline_ns is not None and job.deadline_ns <= turn.now_ns:
            jobs.deadline_passed(turn, job)
