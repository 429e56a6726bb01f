"""What must hold after every event. A broken one is a defect of the core, never of its input.

The names I1 to I5 are those of docs/broker-state.md. `check` looks at everything (tests, the
simulator); `check_job` and `check_peer` look at what one event touched, and run in production.
"""

from __future__ import annotations

from broker.core.state import (
    HELD_PHASES,
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


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvariantViolation(message)


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
    _require(list(state.unfinished) == unfinished, "the list of unfinished jobs is wrong")
    tokens = [lease.token for job in state.jobs.values() for lease in job.leases]
    tokens += [token for job in state.jobs.values() for token in job.standbys]
    _require(len(set(tokens)) == len(tokens), "I2: a token was granted twice")
    _require(max(tokens, default=0) <= state.last_token, "I2: a token above the last one granted")
    planning = [j.job_id for j in state.unfinished.values() if j.state is JobState.PLANNING]
    wanted = [state.planning_job] if state.planning_job else []
    _require(planning == wanted, f"planning are {planning}, expected {wanted}")
    _require(len(state.submissions) == len(state.jobs), "I1: a submission without its job")
    for key in state.keys.values():
        _require(key.reusable or key.uses <= 1, f"single-use key {key.key_id} was used twice")


def check_job(state: State, job: JobRecord) -> None:
    """Check one job and its leases."""
    where = f"{job.job_id} ({job.state})"
    terminal = job.state in TERMINAL
    _require(job.endings == int(terminal), f"I1: {where} has ended {job.endings} times")
    _require((job.job_id in state.unfinished) != terminal, f"I1: {where} is in the wrong list")
    _require(0 <= job.steps_done <= job.spec.training.steps, f"I4: {where}: {job.steps_done} steps")
    valid = [lease for lease in job.leases if lease.phase in VALID_PHASES]
    _require(not (terminal and valid), f"I2: {where} has valid leases")
    if job.state in PLACED:
        _check_placed(state, job, where)
    if job.state is JobState.SUCCEEDED:
        _require(job.steps_done == job.spec.training.steps, f"I4: {where} lacks steps")
        _require(all(lease.result_digest for lease in job.leases), f"{where} lacks a result")
    if job.state in (JobState.SUBMITTED, JobState.PLANNING):
        _require(not job.leases, f"{where} has leases")
    _require(job.state in STARTED or not job.standbys, f"{where} has standbys")
    _require(len(job.losses) == len(job.losses_at_ns), f"{where}: metrics of unequal length")
    wanted = job.steps_done if job.spec.kind == TRAIN else 0
    _require(len(job.losses) >= wanted, f"I4: {where}: a step without its loss")
    _require(
        job.deadline_ns is not None or job.state not in (JobState.PLANNING, JobState.PREPARING),
        f"{where} waits without a deadline")


def _check_placed(state: State, job: JobRecord, where: str) -> None:
    indices = [lease.index for lease in job.leases]
    _require(indices == list(range(len(indices))) and bool(indices), f"{where}: leases {indices}")
    steps = min(lease.steps_done for lease in job.leases)
    _require(job.steps_done >= steps, f"I4: {where}: {job.steps_done} steps, segments say {steps}")
    vacant = [lease.index for lease in job.leases if lease.phase not in VALID_PHASES]
    _require(not vacant or job.state is JobState.RECOVERING,
             f"I2: {where}: segments {vacant} have no holder")
    for lease in job.leases:
        _require(lease.position <= lease.steps_done, f"I4: {where}: segment {lease.index}")
        if lease.phase in VALID_PHASES and not lease.is_log_gone:
            _check_holder(state, lease, where)
    if job.state in STARTED:
        _check_started(state, job, where)


def _check_holder(state: State, lease: LeaseRecord, where: str) -> None:
    peer = state.peers[lease.peer_id]
    _require(peer.leases.get(lease.token) is lease, f"I2: {where}: {peer.label} knows it not")
    _require(peer.state is not PeerState.LOST, f"I2: {where} runs on the lost peer {peer.label}")


def _check_started(state: State, job: JobRecord, where: str) -> None:
    """I5: what a vacant segment would need is kept, and waits have a reason that people see."""
    _require(len(job.snapshots) == len(job.leases), f"I5: {where}: snapshots of other segments")
    for lease in job.leases:
        kept = lease.position <= job.position <= lease.steps_done
        _require(lease.phase not in VALID_PHASES or kept,
                 f"I5: {where}: segment {lease.index} began at {lease.position}, is at "
                 f"{lease.steps_done}; logs are kept from {job.position} on")
    for index, known in enumerate(job.snapshots):
        _require(job.position == 0 or job.position in known,
                 f"I5: {where}: segment {index} has no snapshot of {job.position}")
    unready = [lease.index for lease in job.leases
               if lease.phase not in (LeasePhase.RUNNING, LeasePhase.FINISHED)]
    _require(bool(unready) == (job.state is JobState.RECOVERING),
             f"{where}: segments {unready} do not run")
    _require(bool(job.reason) == bool(unready), f"{where} waits for no reason: {job.reason!r}")
    for standby in job.standbys.values():
        peer = state.peers[standby.peer_id]
        _require(peer.standbys.get(standby.token) is standby, f"{where}: stray standby")
        _require(job.leases[standby.index].peer_id != standby.peer_id,
                 f"{where}: {peer.label} stands by for what it holds")


def check_peer(state: State, peer: PeerRecord) -> None:
    """Check one peer and what occupies it."""
    _require(len(peer.leases) <= 1, f"{peer.label} holds {len(peer.leases)} leases")
    for token, lease in peer.leases.items():
        known = lease.token == token and lease.peer_id == peer.peer_id
        own = any(other is lease for other in state.jobs[lease.job_id].leases)
        _require(known and (own or lease.phase is LeasePhase.REVOKED), f"{peer.label}: stray lease")
        _require(lease.phase is not LeasePhase.RELEASED, f"{peer.label}: a released lease")
        _require(
            lease.phase in HELD_PHASES or lease.deadline_ns is not None
            or lease.phase is LeasePhase.FINISHED,
            f"{peer.label}: a revoked lease without a deadline")
    _require(
        (peer.deadline_ns is not None) == (peer.state is PeerState.SUSPECT),
        f"{peer.label} is {peer.state} with deadline {peer.deadline_ns}")
    for token, standby in peer.standbys.items():
        own = state.jobs[standby.job_id].standbys.get(token) is standby
        _require(own and peer.state is not PeerState.LOST, f"{peer.label}: stray standby")
    _require(
        bool(peer.session_id) or peer.state is not PeerState.LIVE,
        f"{peer.label} is live without a session")
