"""What must hold after every event. A broken one is a defect of the core, never of its input.

`check` looks at everything (tests, the simulator); `check_books` at what costs little, and runs in
production. The names P1 to P12 are those of docs/peer-state.md. They run after every event, so a
message is made only for what is broken.
"""

from __future__ import annotations

from dag.schedule import DEFERRED_MICROBATCHES_MAX
from peer.core.arrivals import HELD_MAX, Verdict, judge, tensor_of, when_due
from peer.core.dataflow import SegmentRun, TensorKey, next_action
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.core.standbys import STANDBYS_MAX
from peer.core.state import LeasePhase, LeaseRecord, PeerState

ACTIVE = (LeasePhase.READY, LeasePhase.RUNNING)
OVER = (LeasePhase.STORING, LeasePhase.FINISHED, LeasePhase.CLOSING)


class InvariantViolation(Exception):  # noqa: N818 - it says what it is
    """The core is in a state that it must never be in.

    Attributes:
        story: the last events of the peer, oldest first.
    """

    def __init__(self, message: str, story: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join((message, *story)))
        self.message = message
        self.story = story


def check(state: PeerState) -> None:
    """Check everything.

    Raises:
        InvariantViolation: with what is wrong and where.

    Cost: linear in the leases and in the tensors that wait.
    """
    check_books(state)
    for lease in state.leases.values():
        if lease.phase in ACTIVE:
            _check_arrived(lease)
            _check_step(lease)
        _check_held(lease)


def check_books(state: PeerState) -> None:
    """Check leases, reports and the busy task, not every tensor. Cost: O(leases + reports)."""
    for key, lease in state.leases.items():
        if key != (lease.job_id, lease.segment):
            raise InvariantViolation(f"P1: a lease is filed under {key}")
        _check_flow(lease)
        _check_phase(lease)
        _check_position(lease)
    _check_standbys(state)
    _check_busy(state)
    _check_reports(state)


def _named(lease: LeaseRecord) -> str:
    return f"segment {lease.segment} of {lease.job_id} ({lease.phase})"


def _check_flow(lease: LeaseRecord) -> None:
    """What flows through the segment, and what waits for it, is bounded."""
    run = lease.run
    flying = run.forwarded - run.retired
    if not 0 <= flying <= run.in_flight:
        raise InvariantViolation(
            f"P3: {_named(lease)} has {flying} of {run.in_flight} in flight")
    deferred = run.deferred
    if deferred and (deferred != sorted(set(deferred)) or len(deferred) > (
            DEFERRED_MICROBATCHES_MAX + 1)):
        raise InvariantViolation(f"P3: {_named(lease)}: weight gradients of {deferred} wait")
    limit = 0 if run.phase is None else run.phase.microbatches
    if not 0 <= run.retired <= run.forwarded <= limit:
        raise InvariantViolation(
            f"P3: {_named(lease)}: {run.retired} retired, {run.forwarded} forwarded of {limit}")
    if lease.held and lease.phase in OVER:
        raise InvariantViolation(
            f"P10: {_named(lease)} lets {len(lease.held)} arrivals wait for nothing")
    if len(lease.held) > HELD_MAX:
        raise InvariantViolation(f"P10: {_named(lease)} lets {len(lease.held)} arrivals wait")


def _check_phase(lease: LeaseRecord) -> None:
    """The phase of the lease, that of its run, and the steps that are told fit each other."""
    run = lease.run
    if lease.waiting is not None and lease.phase is not LeasePhase.RUNNING:
        raise InvariantViolation(f"P7: {_named(lease)} waits")
    if lease.phase is LeasePhase.RUNNING and run.phase is None:
        raise InvariantViolation(f"P4: {_named(lease)} runs, but all its phases are over")
    if lease.phase in (LeasePhase.STORING, LeasePhase.FINISHED) and not (
            run.phase is None and lease.steps_done == run.order.steps):
        raise InvariantViolation(
            f"P4: {_named(lease)} is over after {lease.steps_done} of {run.order.steps} steps")
    if run.phase is not None and run.phase.mode is Mode.INFER:
        if lease.steps_done > run.retired:
            raise InvariantViolation(
                f"P4: {_named(lease)} has told of {lease.steps_done} microbatches, but "
                f"{run.retired} retired")
    elif run.phase is not None and run.phase.step != lease.steps_done:
        raise InvariantViolation(
            f"P4: {_named(lease)} has done {lease.steps_done} steps, but is in {run.phase}")
    if lease.is_revoked and lease.phase is not LeasePhase.CLOSING:
        raise InvariantViolation(f"P2: {_named(lease)} is revoked")


def _check_position(lease: LeaseRecord) -> None:
    """A lease works from its position on, and nobody goes back behind the complete one."""
    first = lease.assignment.position
    if not first <= lease.steps_done <= lease.run.order.steps:
        raise InvariantViolation(
            f"P11: {_named(lease)} began at {first} and has done {lease.steps_done} steps")
    if lease.complete < first:
        raise InvariantViolation(f"P11: {_named(lease)} began at {first}, behind {lease.complete}")


def _check_standbys(state: PeerState) -> None:
    if len(state.standbys) > STANDBYS_MAX:
        raise InvariantViolation(f"P12: {len(state.standbys)} standbys")
    for key, record in state.standbys.items():
        asked, lease = record.asked, state.leases.get(key)
        if key != (asked.job_id, asked.segment):
            raise InvariantViolation(f"P12: a standby is filed under {key}")
        if lease is not None and lease.token >= asked.token:
            raise InvariantViolation(
                f"P12: {key} is held, and stood by for under the older token {asked.token}")


def _check_busy(state: PeerState) -> None:
    busy = state.busy
    if busy is None:
        return
    lease = state.leases.get((busy.job_id, busy.segment))
    held = lease is not None and lease.key == busy.lease and lease.phase is LeasePhase.RUNNING
    if not held:
        raise InvariantViolation(f"P5: the executor is at {busy}, of no running lease")


def _check_reports(state: PeerState) -> None:
    reports = state.reports
    numbers = [report.number for report in reports.pending]
    if numbers != list(range(reports.next_number - len(numbers), reports.next_number)):
        raise InvariantViolation(
            f"P6: reports {numbers} wait, the next is {reports.next_number}")
    if reports.unsent_from > reports.next_number:
        raise InvariantViolation("P6: an unsent report has no number yet")
    if reports.is_connected and reports.unsent_from != reports.next_number:
        raise InvariantViolation("P6: a report was not sent though the broker is connected")


def _check_arrived(lease: LeaseRecord) -> None:
    """Whatever waits will be used: so a neighbour cannot fill the memory."""
    stray = sorted(str(key) for key in lease.run.arrived if not _is_due(lease.run, key))
    if stray:
        raise InvariantViolation(
            f"P8: {_named(lease)} holds tensors that it will not use: {stray[:3]}")
    gathered = {step: len(norms) for step, norms in lease.gathering.by_step.items()}
    if len(gathered) > 2 or any(n >= lease.gathering.segments for n in gathered.values()):
        raise InvariantViolation(f"P8: {_named(lease)} holds norms of steps {gathered}")


def _is_due(run: SegmentRun, key: TensorKey) -> bool:
    tensor = tensor_of(run.segment, key)
    return tensor is not None and when_due(run, key, tensor) is Verdict.TAKE


def _check_step(lease: LeaseRecord) -> None:
    """The end of a step comes in one order, and only when its microbatches are through."""
    run = lease.run
    ending = run.collected or run.measured or run.scale is not None
    if ending and not _is_through(run):
        raise InvariantViolation(f"P9: {_named(lease)} ends a step that is not through")
    if run.scale is not None and not run.measured:
        raise InvariantViolation(f"P9: {_named(lease)} has a scale without norms")
    action = next_action(run)
    if not run.measured and isinstance(action, Task) and action.kind is TaskKind.UPDATE:
        raise InvariantViolation(f"P9: {_named(lease)} would update without norms")


def _is_through(run: SegmentRun) -> bool:
    phase = run.phase
    return (phase is not None and phase.mode is Mode.TRAIN
            and run.retired == run.forwarded == phase.microbatches)


def _check_held(lease: LeaseRecord) -> None:
    """Whatever waits was judged after the last event: nobody waits for what is here."""
    due = [arrival for arrival in lease.held if judge(lease, arrival) is not Verdict.HOLD]
    if due:
        raise InvariantViolation(f"P10: {_named(lease)} lets {due[:3]} wait")
