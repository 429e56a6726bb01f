"""The peer's one mutator: `Peer.apply(event) -> commands`.

Deterministic: same events, same commands. The shell's order: take an event, `apply` it, carry out
the commands in order. Bad input never raises: it fails the lease that it came for. What raises is
`InvariantViolation`: a defect in here. docs/peer-state.md has the diagram of a lease's life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isfinite, isnan
from typing import Any

from homespun.errors import Code
from ir.segment import BoundaryKind
from peer.core import commands as do
from peer.core import events as ev
from peer.core.clipping import NormGathering, gradient_scale
from peer.core.dataflow import (
    SegmentRun,
    Waiting,
    accept,
    end_phase,
    finish_task,
    free_retirement,
    is_acknowledged,
    is_phase_over,
    next_action,
    tensor_of,
)
from peer.core.invariants import InvariantViolation, check_books
from peer.core.phases import Mode, PhaseOrder
from peer.core.state import BusyTask, LeasePhase, LeaseRecord, PeerState
from peer.core.story import Story

Commands = Iterator[do.AnyCommand]

LEAD = 0
"""Index of the segment whose peer adds what is summed over segments."""

INFERENCE_REPORTS = 100
"""Reports of one segment's progress through all rows: one per cent each; the broker keeps them."""

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
            ev.TensorReceived: self._tensor_received,
            ev.NormsReceived: self._norms_received,
            ev.ScaleReceived: self._scale_received,
            ev.TaskFinished: self._task_finished,
            ev.ResultStored: self._result_stored,
            ev.SegmentUnloaded: self._segment_unloaded,
            ev.AvailabilityChanged: self._availability_changed,
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
        yield from self._acknowledged(event.last_report)
        yield from self.state.reports.connect(event.last_report)

    def _broker_disconnected(self, event: ev.BrokerDisconnected) -> Commands:
        self.state.reports.disconnect()
        yield from ()

    def _reports_acknowledged(self, event: ev.ReportsAcknowledged) -> Commands:
        yield from self._acknowledged(event.through_number)

    def _acknowledged(self, through_number: int) -> Commands:
        """Forget reports; a segment whose result the broker knows of has nothing left to do."""
        for report in self.state.reports.acknowledge(through_number):
            lease = self._lease(report.job_id, report.segment, report.token)
            if lease is not None and isinstance(report.body, do.FinishedBody):
                yield from self._unload(lease)

    def _assignment_received(self, event: ev.AssignmentReceived) -> Commands:
        held = self.state.leases.get((event.job_id, event.segment.index))
        if held is not None and held.token >= event.token:
            return
        if held is not None:
            yield from self._unload(held)
        order = PhaseOrder.of(event.spec)
        lease = LeaseRecord(
            event,
            SegmentRun.begin(event.segment, order, event.in_flight, event.segments),
            NormGathering(event.segments),
        )
        self.state.leases[event.job_id, event.segment.index] = lease
        yield do.LoadSegment(**_of(lease), spec=event.spec, program=event.segment)

    def _start_received(self, event: ev.StartReceived) -> Commands:
        lease = self._of_event(event)
        if lease is None or lease.phase is not LeasePhase.READY:
            return
        lease.phase = LeasePhase.RUNNING
        lease.members = event.members
        yield do.SetMembers(**_of(lease), members=event.members)

    def _revoke_received(self, event: ev.RevokeReceived) -> Commands:
        lease = self._of_event(event)
        if lease is None:
            yield from self._report_released(event.job_id, event.segment, event.token)
            return
        lease.is_revoked = True
        yield from self._unload(lease)

    def _availability_changed(self, event: ev.AvailabilityChanged) -> Commands:
        yield do.TellAvailability(
            availability=event.availability, deadline_ms=event.deadline_ms)

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
        yield from self._fail(lease, event.code, event.message, event.blamed_peer)

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

    def _segment_unloaded(self, event: ev.SegmentUnloaded) -> Commands:
        lease = self._of_event(event)
        if lease is None:
            # A newer lease of the segment has taken its place; the broker may wait for this word.
            yield from self._report_released(event.job_id, event.segment, event.token)
            return
        del self.state.leases[lease.job_id, lease.segment]
        if lease.is_revoked:
            yield from self._report_released(lease.job_id, lease.segment, lease.token)

    # --- the neighbours' side ------------------------------------------------------------------

    def _tensor_received(self, event: ev.TensorReceived) -> Commands:
        lease = self._of_event(event)
        if lease is None or lease.phase not in (LeasePhase.READY, LeasePhase.RUNNING):
            return
        key = (event.kind, event.edge, event.mode, event.step, event.microbatch)
        problem = accept(lease.run, key)
        if problem is not None:
            tensor = tensor_of(lease.run.segment, key)
            ends = () if tensor is None else (tensor.source, tensor.target)
            sender = next((end for end in ends if end != lease.segment), -1)
            yield from self._refuse(lease, problem, sender)

    def _norms_received(self, event: ev.NormsReceived) -> Commands:
        lease = self._of_event(event)
        if lease is None or lease.phase is not LeasePhase.RUNNING or lease.run.phase is None:
            return
        if lease.segment != LEAD or lease.assignment.spec.training.clip_norm == 0:
            problem: str | None = f"norms from segment {event.source}, which nobody asked for"
        else:
            step_now = lease.run.phase.step
            problem = lease.gathering.problem(event.step, event.source, step_now)
        if problem is not None:
            yield from self._refuse(lease, problem, event.source)
            return
        yield from self._gather_norms(lease, event.step, event.source, event.squared_norms)

    def _scale_received(self, event: ev.ScaleReceived) -> Commands:
        lease = self._of_event(event)
        if lease is None or lease.phase is not LeasePhase.RUNNING or lease.run.phase is None:
            return
        run, asked = lease.run, lease.assignment.spec.training.clip_norm > 0
        is_due = asked and lease.segment != LEAD and run.measured and run.scale is None
        if not is_due or event.step != lease.run.phase.step:
            problem = f"the gradient scale of step {event.step} is not due"
            yield from self._refuse(lease, problem, LEAD)
        elif not isnan(event.scale) and not 0 <= event.scale <= 1:
            yield from self._refuse(lease, f"a gradient scale of {event.scale}", LEAD)
        else:
            yield from self._set_scale(lease, event.step, event.scale)

    # --- time ----------------------------------------------------------------------------------

    def _timer_fired(self, event: ev.TimerFired) -> Commands:
        for lease in list(self._running()):
            deadline_ns = self._deadline_ns(lease)
            if deadline_ns is not None and deadline_ns <= event.at_ns:
                yield from self._stalled(lease)

    def _stalled(self, lease: LeaseRecord) -> Commands:
        """Give a lease up that waited, or whose executor worked, for too long."""
        where = f"segment {lease.segment} of {lease.job_id}"
        if lease.waiting is not None:
            peer = lease.peer_of(lease.waiting.segment)
            seconds = (self.state.now_ns - lease.waiting_since_ns) / 1e9
            message = (
                f"{where} waited {seconds:.0f} s for {lease.waiting.what} "
                f"from segment {lease.waiting.segment} on {peer}"
            )
        else:
            assert self.state.busy is not None
            task, peer = self.state.busy.task, ""
            seconds = (self.state.now_ns - self.state.busy.since_ns) / 1e9
            message = (
                f"{where}: {task.kind} of {task.mode} step {task.step}, microbatch "
                f"{task.microbatch} has not ended after {seconds:.0f} s; the executor hangs, or a "
                "neighbour does not take its tensors"
            )
        yield from self._fail(lease, Code.STALLED, message, peer)

    def _deadline_ns(self, lease: LeaseRecord) -> int | None:
        """When a running lease has stalled, as things are; None while nothing is under way."""
        limit_ns = lease.assignment.stall_timeout_ms * 1_000_000
        if lease.waiting is not None:
            return lease.waiting_since_ns + limit_ns
        busy = self.state.busy
        return busy.since_ns + limit_ns if busy is not None and busy.lease == lease.key else None

    # --- parts ---------------------------------------------------------------------------------

    def _dispatch(self) -> Commands:
        """Give the idle executor its next task, and note what each segment waits for."""
        yield from self._retire_forward_only()
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
            yield do.RunTask(**_of(lease), task=task)

    def _retire_forward_only(self) -> Commands:
        """Where nothing is trained, acknowledgements alone retire microbatches and end phases."""
        for lease in list(self._running()):
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
        if waiting != lease.waiting:
            lease.waiting = waiting
            lease.waiting_since_ns = self.state.now_ns

    def _end_phase(self, lease: LeaseRecord) -> Commands:
        phase, loss = end_phase(lease.run)
        if phase.mode is Mode.TRAIN:
            lease.steps_done = phase.step + 1
            losses = () if loss is None else (loss,)
            yield from self._report(
                lease, do.StepsBody(first_step=phase.step, count=1, losses=losses)
            )
        elif loss is not None:
            yield from self._report(lease, do.EvaluationBody(step=phase.step, loss=loss))
        if lease.run.phase is None:
            lease.phase = LeasePhase.STORING
            lease.waiting = None
            yield do.StoreResult(**_of(lease))

    def _report_inferred(self, lease: LeaseRecord) -> Commands:
        """Each microbatch is a step, told in about `INFERENCE_REPORTS` reports."""
        done, total = lease.run.retired, lease.run.order.steps
        if done % max(1, total // INFERENCE_REPORTS) == 0 or done == total:
            body = do.StepsBody(
                first_step=lease.steps_done, count=done - lease.steps_done, losses=())
            lease.steps_done = done
            yield from self._report(lease, body)

    def _acknowledge_inputs(self, lease: LeaseRecord, task: ev.Task) -> Commands:
        phase = lease.run.phase
        assert phase is not None
        for tensor in lease.run.edges(False, BoundaryKind.ACTIVATION):
            if is_acknowledged(tensor, phase):
                yield do.SendAcknowledge(
                    **_of(lease),
                    edge=tensor.edge,
                    mode=task.mode,
                    step=task.step,
                    microbatch=task.microbatch,
                )

    def _share_norms(self, lease: LeaseRecord, event: ev.TaskFinished) -> Commands:
        if lease.assignment.spec.training.clip_norm == 0:
            scale = gradient_scale(dict(event.squared_norms), 0.0)
            yield from self._set_scale(lease, event.task.step, scale)
        elif lease.segment == LEAD:
            yield from self._gather_norms(lease, event.task.step, LEAD, event.squared_norms)
        else:
            yield do.SendNorms(
                **_of(lease), step=event.task.step, squared_norms=event.squared_norms
            )

    def _gather_norms(
        self, lease: LeaseRecord, step: int, source: int, norms: tuple[tuple[str, float], ...]
    ) -> Commands:
        complete = lease.gathering.add(step, source, norms)
        if complete is None:
            return
        scale = gradient_scale(complete, lease.assignment.spec.training.clip_norm)
        for target in range(1, lease.assignment.segments):
            yield do.SendScale(**_of(lease), target=target, step=step, scale=scale)
        yield from self._set_scale(lease, step, scale)

    def _set_scale(self, lease: LeaseRecord, step: int, scale: float) -> Commands:
        if isfinite(scale):
            lease.run.scale = scale
            return
        task = ev.Task(kind=ev.TaskKind.UPDATE, mode=Mode.TRAIN, step=step)
        yield from self._fail_loss(lease, task, "the gradient norm is not finite")

    def _refuse(self, lease: LeaseRecord, problem: str, sender: int) -> Commands:
        """A neighbour sent what a correct one cannot have sent."""
        message = f"segment {lease.segment} of {lease.job_id} was sent what it refuses: {problem}"
        yield from self._fail(lease, Code.INVALID_ARGUMENT, message, lease.peer_of(sender))

    def _fail_loss(self, lease: LeaseRecord, task: ev.Task, what: str) -> Commands:
        message = f"{what} at {task.mode} step {task.step}, microbatch {task.microbatch}"
        yield from self._fail(lease, Code.LOSS_NOT_FINITE, message, "")

    def _fail(self, lease: LeaseRecord, code: str, message: str, blamed: str) -> Commands:
        body = do.FailedBody(code=str(code), message=message, blamed_peer=blamed)
        yield from self._report(lease, body)
        yield from self._unload(lease)

    def _unload(self, lease: LeaseRecord) -> Commands:
        if lease.phase is LeasePhase.CLOSING:
            return
        lease.phase = LeasePhase.CLOSING
        lease.waiting = None
        if self.state.busy is not None and self.state.busy.lease == lease.key:
            self.state.busy = None
        yield do.UnloadSegment(**_of(lease))

    def _report(self, lease: LeaseRecord, body: do.ReportBody) -> Commands:
        yield from self.state.reports.add(lease.job_id, lease.segment, lease.token, body)

    def _report_released(self, job_id: str, segment: int, token: int) -> Commands:
        yield from self.state.reports.add(job_id, segment, token, do.ReleasedBody())

    def _running(self) -> Iterator[LeaseRecord]:
        return (
            lease for lease in self.state.leases.values() if lease.phase is LeasePhase.RUNNING
        )

    def _lease(self, job_id: str, segment: int, token: int) -> LeaseRecord | None:
        lease = self.state.leases.get((job_id, segment))
        return lease if lease is not None and lease.token == token else None

    def _of_event(self, event: ev.SegmentEvent) -> LeaseRecord | None:
        return self._lease(event.job_id, event.segment, event.token)


def _of(lease: LeaseRecord) -> dict[str, Any]:
    """The three fields that every command about a lease carries."""
    return {"job_id": lease.job_id, "segment": lease.segment, "token": lease.token}
