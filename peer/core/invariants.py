"""What must hold after every event. A broken one is a defect of the core, never of its input.

`check` looks at everything (tests, the simulator); `check_books` at what costs little, and runs in
production. The names P1 to P12 are those of docs/peer-state.md.
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


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvariantViolation(message)


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
        _require(key == (lease.job_id, lease.segment), f"P1: a lease is filed under {key}")
        _check_lease(lease)
        _check_position(lease)
    _check_standbys(state)
    _check_busy(state)
    _check_reports(state)


def _check_lease(lease: LeaseRecord) -> None:
    where = f"segment {lease.segment} of {lease.job_id} ({lease.phase})"
    run = lease.run
    flying = run.forwarded - run.retired
    _require(0 <= flying <= run.in_flight, f"P3: {where} has {flying} of {run.in_flight} in flight")
    limit = 0 if run.phase is None else run.phase.microbatches
    _require(run.deferred == sorted(set(run.deferred)) and len(run.deferred) <= (
                 DEFERRED_MICROBATCHES_MAX + 1),
             f"P3: {where}: weight gradients of {run.deferred} wait")
    _require(0 <= run.retired <= run.forwarded <= limit,
             f"P3: {where}: {run.retired} retired, {run.forwarded} forwarded of {limit}")
    _require(lease.waiting is None or lease.phase is LeasePhase.RUNNING, f"P7: {where} waits")
    _require(lease.phase is not LeasePhase.RUNNING or run.phase is not None,
             f"P4: {where} runs, but all its phases are over")
    is_over = lease.phase in (LeasePhase.STORING, LeasePhase.FINISHED)
    _require(not is_over or (run.phase is None and lease.steps_done == run.order.steps),
             f"P4: {where} is over after {lease.steps_done} of {run.order.steps} steps")
    is_inference = run.phase is not None and run.phase.mode is Mode.INFER
    _require(run.phase is None or run.phase.step == lease.steps_done or is_inference,
             f"P4: {where} has done {lease.steps_done} steps, but is in {run.phase}")
    _require(not is_inference or lease.steps_done <= run.retired,
             f"P4: {where} has told of {lease.steps_done} microbatches, but {run.retired} retired")
    _require(not lease.is_revoked or lease.phase is LeasePhase.CLOSING, f"P2: {where} is revoked")
    _require(not lease.held or lease.phase not in OVER,
             f"P10: {where} lets {len(lease.held)} arrivals wait for nothing")
    _require(len(lease.held) <= HELD_MAX, f"P10: {where} lets {len(lease.held)} arrivals wait")


def _check_position(lease: LeaseRecord) -> None:
    """A lease works from its position on, and nobody goes back behind the complete one."""
    where = f"segment {lease.segment} of {lease.job_id}"
    first = lease.assignment.position
    _require(first <= lease.steps_done <= lease.run.order.steps,
             f"P11: {where} began at {first} and has done {lease.steps_done} steps")
    _require(lease.complete >= first, f"P11: {where} began at {first}, behind {lease.complete}")


def _check_standbys(state: PeerState) -> None:
    _require(len(state.standbys) <= STANDBYS_MAX, f"P12: {len(state.standbys)} standbys")
    for key, record in state.standbys.items():
        asked, lease = record.asked, state.leases.get(key)
        _require(key == (asked.job_id, asked.segment), f"P12: a standby is filed under {key}")
        _require(lease is None or lease.token < asked.token,
                 f"P12: {key} is held, and stood by for under the older token {asked.token}")


def _check_busy(state: PeerState) -> None:
    busy = state.busy
    if busy is None:
        return
    lease = state.leases.get((busy.job_id, busy.segment))
    held = lease is not None and lease.key == busy.lease and lease.phase is LeasePhase.RUNNING
    _require(held, f"P5: the executor is at {busy}, of no running lease")


def _check_reports(state: PeerState) -> None:
    reports = state.reports
    numbers = [report.number for report in reports.pending]
    wanted = list(range(reports.next_number - len(numbers), reports.next_number))
    _require(numbers == wanted, f"P6: reports {numbers} wait, the next is {reports.next_number}")
    _require(reports.unsent_from <= reports.next_number, "P6: an unsent report has no number yet")
    is_all_sent = not reports.is_connected or reports.unsent_from == reports.next_number
    _require(is_all_sent, "P6: a report was not sent though the broker is connected")


def _check_arrived(lease: LeaseRecord) -> None:
    """Whatever waits will be used: so a neighbour cannot fill the memory."""
    stray = sorted(str(key) for key in lease.run.arrived if not _is_due(lease.run, key))
    where = f"segment {lease.segment} of {lease.job_id}"
    _require(not stray, f"P8: {where} holds tensors that it will not use: {stray[:3]}")
    gathered = {step: len(norms) for step, norms in lease.gathering.by_step.items()}
    bounded = len(gathered) <= 2 and all(n < lease.gathering.segments for n in gathered.values())
    _require(bounded, f"P8: {where} holds norms of steps {gathered}")


def _is_due(run: SegmentRun, key: TensorKey) -> bool:
    tensor = tensor_of(run.segment, key)
    return tensor is not None and when_due(run, key, tensor) is Verdict.TAKE


def _check_step(lease: LeaseRecord) -> None:
    """The end of a step comes in one order, and only when its microbatches are through."""
    run = lease.run
    where = f"segment {lease.segment} of {lease.job_id}"
    ending = run.collected or run.measured or run.scale is not None
    _require(not ending or _is_through(run), f"P9: {where} ends a step that is not through")
    _require(run.scale is None or run.measured, f"P9: {where} has a scale without norms")
    action = next_action(run)
    is_update = isinstance(action, Task) and action.kind is TaskKind.UPDATE
    _require(not is_update or run.measured, f"P9: {where} would update without norms")


def _is_through(run: SegmentRun) -> bool:
    phase = run.phase
    return (phase is not None and phase.mode is Mode.TRAIN
            and run.retired == run.forwarded == phase.microbatches)


def _check_held(lease: LeaseRecord) -> None:
    """Whatever waits was judged after the last event: nobody waits for what is here."""
    due = [arrival for arrival in lease.held if judge(lease, arrival) is not Verdict.HOLD]
    _require(not due, f"P10: segment {lease.segment} of {lease.job_id} lets {due[:3]} wait")
