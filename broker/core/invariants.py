"""What must hold after every event. A broken one is a defect of the core, never of its input.

The names I1 to I5 are those of docs/broker-state.md. `check` looks at everything (tests, the
simulator); `check_job` and `check_peer` look at what one event touched, and run in production.
They run after every event, so a message is made only for what is broken.
"""

from __future__ import annotations

from broker.core.state import (
    STARTED,
    TERMINAL,
    VALID_PHASES,
    JobRecord,
    JobState,
    LeasePhase,
    LeaseRecord,
    PeerRecord,
    PeerState,
    State,
)
from ir.graph import TRAIN

PLACED = (JobState.PREPARING, JobState.RUNNING, JobState.RECOVERING)


class InvariantViolation(Exception):  # noqa: N818 - it says what it is
    """The core is in a state that it must never be in.

    The shell stops and keeps the journal: the journal is the test case.

    Attributes:
        story: the last events of the job and peer concerned, oldest first.
    """

    def __init__(self, message: str, story: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join((message, *story)))
        self.message = message
        self.story = story


def check(state: State) -> None:
    """Check everything.

    Raises:
        InvariantViolation: with what is wrong and where.

    Cost: linear in the whole state.
    """
    for job in state.jobs.values():
        check_job(state, job)
    for peer in state.peers.values():
        check_peer(state, peer)
    unfinished = [job.job_id for job in state.jobs.values() if job.state not in TERMINAL]
    if list(state.unfinished) != unfinished:
        raise InvariantViolation("the list of unfinished jobs is wrong")
    collecting = {job.job_id for job in state.jobs.values()
                  if job.partial is not None and not job.partial.is_settled}
    if state.collecting.keys() != collecting:
        raise InvariantViolation("the list of jobs whose partial result is collected is wrong")
    tokens = [lease.token for job in state.jobs.values() for lease in job.leases]
    tokens += [token for job in state.jobs.values() for token in job.standbys]
    if len(set(tokens)) != len(tokens):
        raise InvariantViolation("I2: a token was granted twice")
    if max(tokens, default=0) > state.last_token:
        raise InvariantViolation("I2: a token above the last one granted")
    planning = [j.job_id for j in state.unfinished.values() if j.state is JobState.PLANNING]
    wanted = [state.planning_job] if state.planning_job else []
    if planning != wanted:
        raise InvariantViolation(f"planning are {planning}, expected {wanted}")
    if len(state.submissions) != len(state.jobs):
        raise InvariantViolation("I1: a submission without its job")
    for key in state.keys.values():
        if not key.reusable and key.uses > 1:
            raise InvariantViolation(f"single-use key {key.key_id} was used twice")


def check_job(state: State, job: JobRecord) -> None:
    """Check one job and its leases."""
    terminal = job.state in TERMINAL
    if job.endings != int(terminal):
        raise InvariantViolation(f"I1: {_named(job)} has ended {job.endings} times")
    if (job.job_id in state.unfinished) == terminal:
        raise InvariantViolation(f"I1: {_named(job)} is in the wrong list")
    if not 0 <= job.steps_done <= job.spec.training.steps:
        raise InvariantViolation(f"I4: {_named(job)}: {job.steps_done} steps")
    if terminal and any(lease.phase in VALID_PHASES for lease in job.leases):
        raise InvariantViolation(f"I2: {_named(job)} has valid leases")
    if job.state in PLACED:
        _check_placed(state, job)
    if job.state is JobState.SUCCEEDED:
        if job.steps_done != job.spec.training.steps:
            raise InvariantViolation(f"I4: {_named(job)} lacks steps")
        if not all(lease.result_digest for lease in job.leases):
            raise InvariantViolation(f"{_named(job)} lacks a result")
    if job.leases and job.state in (JobState.SUBMITTED, JobState.PLANNING):
        raise InvariantViolation(f"{_named(job)} has leases")
    if job.standbys and job.state not in STARTED:
        raise InvariantViolation(f"{_named(job)} has standbys")
    if job.partial is not None and job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise InvariantViolation(f"{_named(job)} has a partial result")
    if len(job.losses) != len(job.losses_at_ns):
        raise InvariantViolation(f"{_named(job)}: metrics of unequal length")
    if job.spec.kind == TRAIN and len(job.losses) < job.steps_done:
        raise InvariantViolation(f"I4: {_named(job)}: a step without its loss")
    if job.deadline_ns is None and job.state in (JobState.PLANNING, JobState.PREPARING):
        raise InvariantViolation(f"{_named(job)} waits without a deadline")


def _named(job: JobRecord) -> str:
    return f"{job.job_id} ({job.state})"


def _check_placed(state: State, job: JobRecord) -> None:
    indices = [lease.index for lease in job.leases]
    if not indices or indices != list(range(len(indices))):
        raise InvariantViolation(f"{_named(job)}: leases {indices}")
    steps = min(lease.steps_done for lease in job.leases)
    if job.steps_done < steps:
        raise InvariantViolation(
            f"I4: {_named(job)}: {job.steps_done} steps, segments say {steps}")
    vacant = [lease.index for lease in job.leases if lease.phase not in VALID_PHASES]
    if vacant and job.state is not JobState.RECOVERING:
        raise InvariantViolation(f"I2: {_named(job)}: segments {vacant} have no holder")
    for lease in job.leases:
        if lease.position > lease.steps_done:
            raise InvariantViolation(f"I4: {_named(job)}: segment {lease.index}")
        if lease.phase in VALID_PHASES and not lease.is_log_gone:
            _check_holder(state, job, lease)
    if job.state in STARTED:
        _check_started(state, job)


def _check_holder(state: State, job: JobRecord, lease: LeaseRecord) -> None:
    peer = state.peers[lease.peer_id]
    if peer.leases.get(lease.token) is not lease:
        raise InvariantViolation(f"I2: {_named(job)}: {peer.label} knows it not")
    if peer.state is PeerState.LOST:
        raise InvariantViolation(f"I2: {_named(job)} runs on the lost peer {peer.label}")


def _check_started(state: State, job: JobRecord) -> None:
    """I5: what a vacant segment would need is kept, and waits have a reason that people see."""
    if len(job.snapshots) != len(job.leases):
        raise InvariantViolation(f"I5: {_named(job)}: snapshots of other segments")
    for lease in job.leases:
        kept = lease.position <= job.position <= lease.steps_done
        if not kept and lease.phase in VALID_PHASES:
            raise InvariantViolation(
                f"I5: {_named(job)}: segment {lease.index} began at {lease.position}, is at "
                f"{lease.steps_done}; logs are kept from {job.position} on")
    for index, known in enumerate(job.snapshots):
        if job.position != 0 and job.position not in known:
            raise InvariantViolation(
                f"I5: {_named(job)}: segment {index} has no snapshot of {job.position}")
    unready = [lease.index for lease in job.leases
               if lease.phase not in (LeasePhase.RUNNING, LeasePhase.FINISHED)]
    if bool(unready) != (job.state is JobState.RECOVERING):
        raise InvariantViolation(f"{_named(job)}: segments {unready} do not run")
    if bool(job.reason) != bool(unready):
        raise InvariantViolation(f"{_named(job)} waits for no reason: {job.reason!r}")
    for standby in job.standbys.values():
        peer = state.peers[standby.peer_id]
        if peer.standbys.get(standby.token) is not standby:
            raise InvariantViolation(f"{_named(job)}: stray standby")
        if job.leases[standby.index].peer_id == standby.peer_id:
            raise InvariantViolation(
                f"{_named(job)}: {peer.label} stands by for what it holds")


def check_peer(state: State, peer: PeerRecord) -> None:
    """Check one peer and what occupies it."""
    if len(peer.leases) > 1:
        raise InvariantViolation(f"{peer.label} holds {len(peer.leases)} leases")
    for token, lease in peer.leases.items():
        known = lease.token == token and lease.peer_id == peer.peer_id
        own = any(other is lease for other in state.jobs[lease.job_id].leases)
        if not known or not (own or lease.phase is LeasePhase.REVOKED):
            raise InvariantViolation(f"{peer.label}: stray lease")
        if lease.phase is LeasePhase.RELEASED:
            raise InvariantViolation(f"{peer.label}: a released lease")
        if lease.phase is LeasePhase.REVOKED and lease.deadline_ns is None:
            raise InvariantViolation(f"{peer.label}: a revoked lease without a deadline")
    if (peer.deadline_ns is not None) != (peer.state is PeerState.SUSPECT):
        raise InvariantViolation(f"{peer.label} is {peer.state} with deadline {peer.deadline_ns}")
    for token, standby in peer.standbys.items():
        own = state.jobs[standby.job_id].standbys.get(token) is standby
        if not own or peer.state is PeerState.LOST:
            raise InvariantViolation(f"{peer.label}: stray standby")
    if peer.peer_id in state.banned and peer.state is not PeerState.LOST:
        raise InvariantViolation(f"{peer.label} is banned and {peer.state}")
    if peer.peer_id in state.forgotten and (peer.leases or peer.state is not PeerState.LOST):
        raise InvariantViolation(f"{peer.label} is removed and {peer.state}")
    if peer.is_pending and (peer.leases or peer.standbys):
        raise InvariantViolation(f"{peer.label} is pending and was given something")
    if not peer.session_id and peer.state is PeerState.LIVE:
        raise InvariantViolation(f"{peer.label} is live without a session")
