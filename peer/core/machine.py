"""The peer's one mutator: `Peer.apply(event) -> commands`.

Deterministic: same events, same commands. The shell's order: take an event, `apply` it, carry out
the commands in order. Bad input never raises: it fails the lease that it came for. What raises is
`InvariantViolation`: a defect in here. docs/peer-state.md has the diagram of a lease's life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any

from homespun.errors import Code
from ir.segment import LEAD, BoundaryKind
from peer.core import commands as do
from peer.core import events as ev
from peer.core import snapshots, standbys
from peer.core.arrivals import HELD_MAX, Verdict, described, judge, key_of, same, sender_of
from peer.core.clipping import NormGathering, gradient_scale, problem_with_norms
from peer.core.dataflow import (
    SegmentRun,
    Waiting,
    end_phase,
    finish_task,
    free_retirement,
    is_acknowledged,
    is_phase_over,
    next_action,
)
from peer.core.invariants import InvariantViolation, check_books
from peer.core.phases import Mode, PhaseOrder
from peer.core.state import (
    Arrival,
    BusyTask,
    LeasePhase,
    LeaseRecord,
    PeerState,
    fields_of,
    find_lease,
)
from peer.core.story import Story

Commands = Iterator[do.AnyCommand]

INFERENCE_REPORTS = 100
"""Reports of one segment's progress through all rows: one per cent each; the broker keeps them."""

AFTER_START = (LeasePhase.RUNNING, LeasePhase.STORING, LeasePhase.FINISHED)
"""Phases in which a lease has members, whose log they may need."""

_URGENCY = {
    ev.TaskKind.UPDATE: 0,
    ev.TaskKind.MEASURE: 0,
    ev.TaskKind.COLLECT: 0,
    ev.TaskKind.BACKWARD: 1,
    ev.TaskKind.FORWARD: 2,
    ev.TaskKind.ACCUMULATE: 3,
}
"""Lower goes first when several segments have work: what others wait for longest."""


class Peer:
    """The peer core. See the module docstring for its contract with the shell."""

    def __init__(self) -> None:
        self.state = PeerState()
        self.story = Story()
        self._handlers: Mapping[type[ev.Event], Callable[[Any], Commands]] = {
            ev.BrokerConnected: self._broker_connected,
            ev.BrokerDisconnected: self._broker_disconnected,
            ev.ReportsAcknowledged: self._reports_acknowledged,
            ev.AssignmentReceived: self._assignment_received,
            ev.StartReceived: self._start_received,
            ev.RevokeReceived: self._revoke_received,
            ev.SegmentLoaded: self._segment_loaded,
            ev.SegmentBroke: self._segment_broke,
            ev.TensorReceived: self._arrived,
            ev.NormsReceived: self._arrived,
            ev.ScaleReceived: self._arrived,
            ev.NeighbourLost: self._neighbour_lost,
            ev.SnapshotPlanReceived: lambda event: snapshots.planned(self.state, event),
            ev.SnapshotCompleted: lambda event: snapshots.completed(self.state, event),
            ev.SnapshotHeld: lambda event: snapshots.held(self.state, event),
            ev.SnapshotFailed: lambda event: snapshots.failed(self.state, event),
            ev.PaceMeasured: self._pace_measured,
            ev.StandByReceived: lambda event: standbys.asked(self.state, event),
            ev.StandbyPrepared: lambda event: standbys.prepared(self.state, event),
            ev.StandbyBroke: lambda event: standbys.broke(self.state, event),
            ev.AvailabilityChanged: self._availability_changed,
            ev.TaskFinished: self._task_finished,
            ev.ResultStored: self._result_stored,
            ev.SegmentUnloaded: self._segment_unloaded,
            ev.TimerFired: self._timer_fired,
        }

    def apply(self, event: ev.AnyEvent) -> tuple[do.AnyCommand, ...]:
        """Take one event into account and return what to do about it, in order.

        Raises:
            ValueError: the clock went back, which is a defect of the shell.
            InvariantViolation: a defect of the core, with the story of the last events.
        """
        if event.at_ns < self.state.now_ns:
            raise ValueError(f"time went back from {self.state.now_ns} to {event.at_ns}")
        self.state.now_ns = event.at_ns
        commands: list[do.AnyCommand] = []
        try:
            commands.extend(self._handlers[type(event)](event))
            commands.extend(self._dispatch())
            check_books(self.state)
        except Exception as error:
            self.story.record(event, commands)
            message = f"{type(error).__name__} in the core: {error}"
            raise InvariantViolation(message, self.story.lines()) from error
        self.story.record(event, commands)
        return tuple(commands)

    def next_wakeup_ns(self) -> int | None:
        """When the shell must send `TimerFired`: the first deadline of a wait or task, or None."""
        deadlines = [self._deadline_ns(lease) for lease in self._running()]
        return min((at_ns for at_ns in deadlines if at_ns is not None), default=None)

    # --- the broker's side ---------------------------------------------------------------------

    def _broker_connected(self, event: ev.BrokerConnected) -> Commands:
        self.state.reports.acknowledge(event.last_report)
        self.state.is_connected = True
        yield self._availability()
        yield from self.state.reports.connect(event.last_report)

    def _broker_disconnected(self, event: ev.BrokerDisconnected) -> Commands:
        self.state.is_connected = False
        self.state.reports.disconnect()
        yield from ()

    def _reports_acknowledged(self, event: ev.ReportsAcknowledged) -> Commands:
        self.state.reports.acknowledge(event.through_number)
        yield from ()

    def _availability_changed(self, event: ev.AvailabilityChanged) -> Commands:
        self.state.availability = event.availability
        self.state.drain_at_ns = (
            event.at_ns + event.deadline_ms * 1_000_000 if event.deadline_ms > 0 else None)
        if self.state.is_connected:
            yield self._availability()

    def _availability(self) -> do.TellAvailability:
        """What the broker is told, with the time that is left of the owner's deadline."""
        left_ms = 0
        if self.state.drain_at_ns is not None:
            left_ms = max(1, (self.state.drain_at_ns - self.state.now_ns) // 1_000_000)
        return do.TellAvailability(
            availability=self.state.availability, deadline_ms=left_ms)

    def _assignment_received(self, event: ev.AssignmentReceived) -> Commands:
        held = self.state.leases.get((event.job_id, event.segment.index))
        if held is not None and held.token >= event.token:
            return
        if held is not None:
            yield from self._unload(held)
        order = PhaseOrder.of(event.spec)
        has_state = event.snapshot is not None or bool(event.parts)
        if not 0 <= event.position <= order.steps or (event.position > 0) != has_state:
            yield from self._refuse_position(event, order.steps)
            return
        lease = LeaseRecord(
            event,
            SegmentRun.begin(
                event.segment, order, event.in_flight, event.segments, event.position),
            NormGathering(event.segments),
            steps_done=event.position,
            complete=event.position,
        )
        standbys.consume(self.state, event.job_id, event.segment.index)
        self.state.leases[event.job_id, event.segment.index] = lease
        yield do.LoadSegment(
            **fields_of(lease), spec=event.spec, program=event.segment, position=event.position,
            snapshot=event.snapshot, parts=event.parts, first_serial=event.first_serial)

    def _refuse_position(self, event: ev.AssignmentReceived, steps: int) -> Commands:
        """Without the state of that position, or beyond the end, other bits would come out."""
        source = "with" if event.snapshot is not None or event.parts else "without"
        message = (
            f"segment {event.segment.index} of {event.job_id} cannot begin at position "
            f"{event.position} of {steps} {source} a snapshot")
        yield from self.state.reports.add(
            event.job_id, event.segment.index, event.token,
            do.FailedBody(code=str(Code.INVALID_ARGUMENT), message=message, blamed_peer=""))

    def _start_received(self, event: ev.StartReceived) -> Commands:
        lease = self._of_event(event)
        if lease is None:
            return
        is_first = lease.phase is LeasePhase.READY
        if not is_first and (lease.phase not in AFTER_START or lease.members == event.members):
            return
        before = {member.segment: member.token for member in lease.members if member.peer_id}
        moved = {m.segment for m in event.members if before.get(m.segment) != m.token}
        lease.members = event.members
        lease.lost = {loss for loss in lease.lost if loss[0] not in moved}
        if lease.waiting is not None and lease.waiting.segment in moved:
            self._wait_anew(lease, lease.waiting)
        yield do.SetMembers(**fields_of(lease), members=event.members)
        if is_first:
            lease.phase = LeasePhase.RUNNING
            if lease.run.phase is None:
                yield from self._store(lease)

    def _revoke_received(self, event: ev.RevokeReceived) -> Commands:
        if standbys.find(self.state, event) is not None:
            yield from standbys.revoked(self.state, event)
            return
        lease = self._of_event(event)
        if lease is None:
            yield from self._report_released(event.job_id, event.segment, event.token)
            return
        lease.is_revoked = True
        yield from self._unload(lease)

    # --- the executor's side -------------------------------------------------------------------

    def _segment_loaded(self, event: ev.SegmentLoaded) -> Commands:
        lease = self._of_event(event)
        if lease is not None and lease.phase is LeasePhase.LOADING:
            lease.phase = LeasePhase.READY
            yield from self._report(lease, do.ReadyBody())

    def _segment_broke(self, event: ev.SegmentBroke) -> Commands:
        lease = self._of_event(event)
        if lease is None or lease.phase in (LeasePhase.FINISHED, LeasePhase.CLOSING):
            return  # the result is stored, or the segment is being dropped: nobody needs it now
        if lease.phase is LeasePhase.STORING and event.blamed_peer:
            return  # all that neighbours owed is here; they may go
        yield from self._fail(
            lease, event.code, event.message, event.blamed_peer, event.cause, event.evidence,
            event.remedy)

    def _task_finished(self, event: ev.TaskFinished) -> Commands:
        lease, busy = self._of_event(event), self.state.busy
        if lease is None or busy is None:
            return
        if (busy.lease, busy.task) != (lease.key, event.task):
            return  # of a lease that was dropped meanwhile, or told twice
        self.state.busy = None
        if event.loss is not None and not isfinite(event.loss):
            yield from self._fail_loss(lease, event.task, f"the loss is {event.loss}")
            return
        finish_task(
            lease.run, event.task, event.loss, has_deferred=event.has_deferred
        )
        if event.task.kind is ev.TaskKind.FORWARD:
            yield from self._acknowledge_inputs(lease, event.task)
        elif event.task.kind is ev.TaskKind.MEASURE:
            yield from self._share_norms(lease, event)
        elif event.task.kind is ev.TaskKind.UPDATE:
            yield from self._end_phase(lease)

    def _result_stored(self, event: ev.ResultStored) -> Commands:
        lease = self._of_event(event)
        if lease is not None and lease.phase is LeasePhase.STORING:
            lease.phase = LeasePhase.FINISHED
            body = do.FinishedBody(
                result_digest=event.digest, result_bytes=event.size_bytes,
                corrections=event.corrections)
            yield from self._report(lease, body)
            yield do.FreeExecutor(**fields_of(lease))

    def _segment_unloaded(self, event: ev.SegmentUnloaded) -> Commands:
        lease = self._of_event(event)
        if lease is None:
            # A newer lease of the segment has taken its place; the broker may wait for this word.
            yield from self._report_released(event.job_id, event.segment, event.token)
            return
        del self.state.leases[lease.job_id, lease.segment]
        if lease.is_revoked:
            yield from self._report_released(lease.job_id, lease.segment, lease.token)

    def _pace_measured(self, event: ev.PaceMeasured) -> Commands:
        lease = self._of_event(event)
        if lease is not None and lease.phase is LeasePhase.RUNNING:
            yield from self._report(lease, do.PaceBody(
                microbatch_s=event.microbatch_s, microbatches=event.microbatches))

    # --- the neighbours' side ------------------------------------------------------------------

    def _neighbour_lost(self, event: ev.NeighbourLost) -> Commands:
        """The broker finds the neighbour's segment another holder; this one waits.

        Told once, until something comes from that holder again.
        """
        lease = self._of_event(event)
        if lease is None or lease.phase not in AFTER_START:
            return
        loss = (event.neighbour, event.code)
        if lease.peer_of(event.neighbour) == event.peer_id and loss not in lease.lost:
            lease.lost.add(loss)
            yield from self._report(lease, do.NeighbourLostBody(
                neighbour=event.neighbour, peer_id=event.peer_id, code=event.code,
                message=event.message))

    def _arrived(self, event: Arrival) -> Commands:
        lease = self._of_event(event)
        if lease is None or lease.phase in (LeasePhase.FINISHED, LeasePhase.CLOSING):
            yield do.DropArrival(
                job_id=event.job_id, segment=event.segment, token=event.token,
                arrival=event.arrival)
            return
        if lease.lost:
            sender = sender_of(lease, event)
            lease.lost = {loss for loss in lease.lost if loss[0] != sender}
        if any(same(event, held) for held in lease.held):
            yield do.DropArrival(**fields_of(lease), arrival=event.arrival)
        else:
            yield from self._judge(lease, event)

    def _judge(self, lease: LeaseRecord, event: Arrival) -> Commands:
        """Take, drop, hold or refuse one arrival."""
        match judge(lease, event):
            case Verdict.TAKE:
                yield do.TakeArrival(**fields_of(lease), arrival=event.arrival)
                yield from self._use(lease, event)
            case Verdict.DROP:
                yield do.DropArrival(**fields_of(lease), arrival=event.arrival)
            case Verdict.HOLD:
                lease.held.append(event)
                if len(lease.held) > HELD_MAX:
                    yield from self._refuse(lease, event, "came while too many others wait")
            case Verdict.REFUSE:
                yield from self._refuse(lease, event, "is nothing that this segment takes")

    def _use(self, lease: LeaseRecord, event: Arrival) -> Commands:
        match event:
            case ev.TensorReceived():
                lease.run.arrived.add(key_of(event))
            case ev.NormsReceived():
                if problem := problem_with_norms(event.squared_norms):
                    yield from self._refuse(lease, event, f"says that {problem}")
                    return
                yield from self._gather_norms(
                    lease, event.step, event.source, event.squared_norms)
            case ev.ScaleReceived():
                lease.run.scale = event.scale

    def _judge_held(self, lease: LeaseRecord) -> Commands:
        """Judge what waits again, oldest first, until nothing more of it is due."""
        while lease.held and lease.phase in AFTER_START:
            held, lease.held = lease.held, []
            for event in held:
                if lease.phase is LeasePhase.CLOSING:
                    return
                yield from self._judge(lease, event)
            if len(lease.held) == len(held):
                return

    # --- time ----------------------------------------------------------------------------------

    def _timer_fired(self, event: ev.TimerFired) -> Commands:
        for lease in list(self._running()):
            deadline_ns = self._deadline_ns(lease)
            if deadline_ns is not None and deadline_ns <= event.at_ns:
                yield from self._stalled(lease)

    def _stalled(self, lease: LeaseRecord) -> Commands:
        """Tell the broker of a long wait; give a lease up whose executor works for too long."""
        where = f"segment {lease.segment} of {lease.job_id}"
        if lease.waiting is not None:
            peer = lease.peer_of(lease.waiting.segment)
            seconds = (self.state.now_ns - lease.waiting_since_ns) / 1e9
            message = (
                f"{where} waited {seconds:.0f} s for {lease.waiting.what} "
                f"from segment {lease.waiting.segment} on {peer}"
            )
            lease.is_stall_told = True
            yield from self._report(lease, do.NeighbourLostBody(
                neighbour=lease.waiting.segment, peer_id=peer, code=str(Code.STALLED),
                message=message))
            return
        assert self.state.busy is not None
        task = self.state.busy.task
        seconds = (self.state.now_ns - self.state.busy.since_ns) / 1e9
        message = (
            f"{where}: {task.kind} of {task.mode} step {task.step}, microbatch "
            f"{task.microbatch} has not ended after {seconds:.0f} s; the executor hangs, or a "
            "neighbour does not take its tensors"
        )
        yield from self._fail(lease, Code.STALLED, message, "")

    def _deadline_ns(self, lease: LeaseRecord) -> int | None:
        """When a running lease has stalled, as things are; None while nothing is under way."""
        limit_ns = lease.assignment.stall_timeout_ms * 1_000_000
        if lease.waiting is not None:
            if lease.is_stall_told or lease.is_vacant(lease.waiting.segment):
                return None  # the broker knows, and looks for a holder
            return lease.waiting_since_ns + limit_ns
        busy = self.state.busy
        return busy.since_ns + limit_ns if busy is not None and busy.lease == lease.key else None

    # --- parts ---------------------------------------------------------------------------------

    def _dispatch(self) -> Commands:
        """Give the idle executor its next task, and note what each segment waits for."""
        for lease in list(self.state.leases.values()):
            yield from self._settle(lease)
        ready: list[tuple[int, str, int, ev.Task]] = []
        for lease in self._running():
            action = next_action(lease.run)
            if isinstance(action, ev.Task):
                ready.append((_URGENCY[action.kind], lease.job_id, lease.segment, action))
            self._note_waiting(lease, action)
        if ready and self.state.busy is None:
            _, job_id, segment, task = min(ready, key=lambda item: item[:3])
            lease = self.state.leases[job_id, segment]
            self.state.busy = BusyTask(*lease.key, task, self.state.now_ns)
            yield do.RunTask(**fields_of(lease), task=task)

    def _settle(self, lease: LeaseRecord) -> Commands:
        """Take what has become due and retire what needs no executor: either may allow the other.

        What waits when the last phase is over is dropped by that, so that links go on.
        """
        while True:
            yield from self._judge_held(lease)
            if lease.phase is not LeasePhase.RUNNING or free_retirement(lease.run) is None:
                return
            yield from self._retire_forward_only(lease)

    def _retire_forward_only(self, lease: LeaseRecord) -> Commands:
        """Where nothing is trained, acknowledgements alone retire microbatches and end phases."""
        while (action := free_retirement(lease.run)) is not None:
            finish_task(lease.run, action, None)
            if action.mode is Mode.INFER:
                yield from self._report_inferred(lease)
            if is_phase_over(lease.run):
                yield from self._end_phase(lease)

    def _note_waiting(self, lease: LeaseRecord, action: ev.Task | Waiting | None) -> None:
        waiting = action if isinstance(action, Waiting) else None
        phase = lease.run.phase
        if waiting is not None and lease.run.measured and phase is not None:
            missing = lease.gathering.missing(phase.step)
            if lease.segment == LEAD and missing is not None:
                waiting = Waiting(f"the gradient norms of step {phase.step}", missing)
        if waiting is not None and lease.is_vacant(waiting.segment):
            what = f"{waiting.what}, once its segment has a holder again"
            waiting = Waiting(what, waiting.segment)
        if waiting != lease.waiting:
            self._wait_anew(lease, waiting)

    def _wait_anew(self, lease: LeaseRecord, waiting: Waiting | None) -> None:
        lease.waiting = waiting
        lease.waiting_since_ns = self.state.now_ns
        lease.is_stall_told = False

    def _end_phase(self, lease: LeaseRecord) -> Commands:
        phase, loss = end_phase(lease.run)
        if phase.mode is Mode.TRAIN:
            lease.steps_done = phase.step + 1
            losses = () if loss is None else (loss,)
            yield from self._report(
                lease, do.StepsBody(first_step=phase.step, count=1, losses=losses)
            )
            yield from snapshots.due(lease, lease.steps_done)
        elif loss is not None:
            yield from self._report(lease, do.EvaluationBody(step=phase.step, loss=loss))
        if lease.run.phase is None:
            yield from self._store(lease)

    def _store(self, lease: LeaseRecord) -> Commands:
        lease.phase = LeasePhase.STORING
        lease.waiting = None
        yield do.StoreResult(**fields_of(lease))

    def _report_inferred(self, lease: LeaseRecord) -> Commands:
        """Each microbatch is a step, told in about `INFERENCE_REPORTS` reports and at snapshots.

        A snapshot holds the rows of the microbatches before its position; later ones that are
        predicted already are no part of it.
        """
        done, total = lease.run.retired, lease.run.order.steps
        is_snapshot = lease.interval > 0 and done % lease.interval == 0
        if done % max(1, total // INFERENCE_REPORTS) == 0 or done == total or is_snapshot:
            body = do.StepsBody(
                first_step=lease.steps_done, count=done - lease.steps_done, losses=())
            lease.steps_done = done
            yield from self._report(lease, body)
        if done < total:
            yield from snapshots.due(lease, done)

    def _acknowledge_inputs(self, lease: LeaseRecord, task: ev.Task) -> Commands:
        phase = lease.run.phase
        assert phase is not None
        for tensor in lease.run.edges(False, BoundaryKind.ACTIVATION):
            if is_acknowledged(tensor, phase):
                yield do.SendAcknowledge(
                    **fields_of(lease),
                    edge=tensor.edge,
                    mode=task.mode,
                    step=task.step,
                    microbatch=task.microbatch,
                )

    def _share_norms(self, lease: LeaseRecord, event: ev.TaskFinished) -> Commands:
        """Nobody is told norms that are not finite: whoever comes to them is the first."""
        if problem := problem_with_norms(event.squared_norms):
            yield from self._fail_loss(lease, event.task, problem)
        elif lease.assignment.spec.training.clip_norm == 0:
            lease.run.scale = 1.0
        elif lease.segment == LEAD:
            yield from self._gather_norms(lease, event.task.step, LEAD, event.squared_norms)
        else:
            yield do.SendNorms(
                **fields_of(lease), step=event.task.step, squared_norms=event.squared_norms
            )

    def _gather_norms(
        self, lease: LeaseRecord, step: int, source: int, norms: tuple[tuple[str, float], ...]
    ) -> Commands:
        complete = lease.gathering.add(step, source, norms)
        if complete is None:
            return
        scale = gradient_scale(complete, lease.assignment.spec.training.clip_norm)
        if not isfinite(scale):
            task = ev.Task(kind=ev.TaskKind.UPDATE, mode=Mode.TRAIN, step=step)
            yield from self._fail_loss(lease, task, "the norm of all gradients is not finite")
            return
        for target in range(1, lease.assignment.segments):
            yield do.SendScale(**fields_of(lease), target=target, step=step, scale=scale)
        lease.run.scale = scale

    def _refuse(self, lease: LeaseRecord, event: Arrival, problem: str) -> Commands:
        """A neighbour sent what a correct one cannot have sent."""
        message = (f"segment {lease.segment} of {lease.job_id} refuses what it was sent: "
                   f"{described(event)} {problem}")
        yield from self._fail(
            lease, Code.INVALID_ARGUMENT, message, lease.peer_of(sender_of(lease, event)))

    def _fail_loss(self, lease: LeaseRecord, task: ev.Task, what: str) -> Commands:
        message = f"{what} at {task.mode} step {task.step}, microbatch {task.microbatch}"
        yield from self._fail(lease, Code.LOSS_NOT_FINITE, message, "")

    def _fail(
        self, lease: LeaseRecord, code: str, message: str, blamed: str, cause: str = "",
        evidence: str = "", remedy: str = "",
    ) -> Commands:
        body = do.FailedBody(
            code=str(code), message=message, blamed_peer=blamed, cause=cause, evidence=evidence,
            remedy=remedy)
        yield from self._report(lease, body)
        yield from self._unload(lease)

    def _unload(self, lease: LeaseRecord) -> Commands:
        if lease.phase is LeasePhase.CLOSING:
            return
        lease.phase = LeasePhase.CLOSING
        lease.waiting = None
        lease.held = []
        if self.state.busy is not None and self.state.busy.lease == lease.key:
            self.state.busy = None
        yield do.UnloadSegment(**fields_of(lease))

    def _report(self, lease: LeaseRecord, body: do.ReportBody) -> Commands:
        yield from self.state.reports.add(lease.job_id, lease.segment, lease.token, body)

    def _report_released(self, job_id: str, segment: int, token: int) -> Commands:
        yield from self.state.reports.add(job_id, segment, token, do.ReleasedBody())

    def _running(self) -> Iterator[LeaseRecord]:
        return (
            lease for lease in self.state.leases.values() if lease.phase is LeasePhase.RUNNING
        )

    def _of_event(self, event: ev.SegmentEvent) -> LeaseRecord | None:
        return find_lease(self.state, event)

