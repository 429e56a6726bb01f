"""Peers that come and go: live, suspect, lost. docs/broker-state.md has the diagram.

A closed stream makes a peer suspect at once; silence on an open stream does after the lease's time
to live. A suspect peer that comes back (or is heard again) within the grace goes on as if nothing
had happened; after it the peer is lost and its segments go to others. The grace is short where a
backup is ready, and over at once when a neighbour has lost the peer too: then it was killed. A
start of the broker itself makes everybody suspect with a longer grace, and so does the silence of
most peers at once: the brake. Both are more likely the broker's own doing.
"""

from __future__ import annotations

from broker.core import drain, growth, limits, losses, pool, restart, snapshots, takeover
from broker.core.commands import AcknowledgeReports, DisconnectPeer, RevokeSegment
from broker.core.events import (
    BrokerStarted,
    HeartbeatsSeen,
    HeldLease,
    HeldStandby,
    NeighbourLost,
    PeerConnected,
    PeerDisconnected,
    PeerHardware,
)
from broker.core.leases import (
    find,
    release,
    release_overdue,
    release_revoked,
    revocation,
    tell,
    tell_all,
)
from broker.core.links import probe_newcomer
from broker.core.planning import put_back
from broker.core.readiness import LEVELS
from broker.core.state import (
    HELD_PHASES,
    NS_PER_MS,
    STARTED,
    BanRecord,
    JobRecord,
    LeasePhase,
    LeaseRecord,
    PeerRecord,
    PeerState,
    State,
    Turn,
    cluster_changed,
)
from dag.cluster import problem_with_rates
from homespun.errors import Code


def broker_started(turn: Turn, event: BrokerStarted) -> None:
    """Take the policy; after a restart, expect every peer back within the restart's grace."""
    state = turn.state
    state.policy = event.policy
    if not state.is_started:
        state.is_started = True
        return
    restart.excuse(state, turn.since_last_ns)
    grace_ns = state.policy.restart_grace_ms * NS_PER_MS
    for _, peer in sorted(state.peers.items()):
        peer.session_id = ""
        if peer.state is not PeerState.LOST:
            trouble = f"did not come back within {grace_ns / 1e9:g} s of the broker's restart"
            _suspect(turn, peer, trouble, grace_ns)
    state.settle_until_ns = turn.now_ns + state.policy.reconnect_grace_ms * NS_PER_MS
    for job in state.unfinished.values():
        job.is_ranking_asked = False  # the planner's answers went with the process
        growth.forget(job)
        job.reviewed_version = -1
    planned = state.unfinished.get(state.planning_job)
    if planned is not None:
        put_back(turn, planned, "is planned again after the broker's restart", -1)


def connected(turn: Turn, event: PeerConnected) -> None:
    """A peer registered: make it live, and bring it and the broker to the same view of leases."""
    state = turn.state
    problem = _problem_with(state, event)
    if problem is not None:
        code, message = problem
        turn.emit(
            DisconnectPeer(
                peer_id=event.peer_id, session_id=event.session_id, code=code, message=message
            )
        )
        return
    peer = state.peers.get(event.peer_id)
    is_new = peer is None
    if peer is None:
        peer = _new_peer(state, event)
        state.peers[peer.peer_id] = peer
    elif peer.session_id and peer.session_id != event.session_id:
        _end_session(turn, peer, Code.CONFLICT, "Another session of this peer has replaced it.")
    came_back = is_new or peer.state is not PeerState.LIVE
    _update(turn, peer, event)
    turn.emit(AcknowledgeReports(peer_id=peer.peer_id, through_number=peer.last_report))
    snapshots.reconcile(turn, peer, event.snapshots)
    drain.set_availability(turn, peer, event.availability, event.drain_ms)
    _compare_leases(turn, peer, event.leases)
    _compare_standbys(turn, peer, event.standbys)
    if came_back and peer.is_pending:
        turn.note(peer.peer_id, "peer_pending", f"Peer {peer.label} waits to be admitted.")
    elif came_back:
        turn.note(peer.peer_id, "peer_live", f"Peer {peer.label} is connected.")
        probe_newcomer(turn, peer)


def _new_peer(state: State, event: PeerConnected) -> PeerRecord:
    identity = state.identities.get(event.peer_id)
    return PeerRecord(
        peer_id=event.peer_id,
        name=event.peer_id,
        hardware=event.hardware,
        tensor_address=event.tensor_address,
        software_version=event.software_version,
        is_pending=identity is not None and identity.is_pending,
    )


def _update(turn: Turn, peer: PeerRecord, event: PeerConnected) -> None:
    shown = "".join(c if c.isprintable() else "?" for c in event.name[: limits.MAX_NAME])
    peer.name = shown or peer.peer_id
    peer.hardware = event.hardware
    peer.tensor_address = event.tensor_address
    peer.software_version = event.software_version
    peer.session_id = event.session_id
    peer.joins_parts = event.joins_parts
    _revive(turn, peer)


def _revive(turn: Turn, peer: PeerRecord) -> None:
    peer.state = PeerState.LIVE
    peer.deadline_ns = None
    peer.trouble = ""
    peer.last_seen_ns = turn.now_ns
    cluster_changed(turn.state)


def _problem_with(state: State, event: PeerConnected) -> tuple[Code, str] | None:
    identity = state.identities.get(event.peer_id)
    if event.peer_id in state.banned:
        return Code.NOT_ALLOWED, shut_out(state.banned[event.peer_id])
    if event.peer_id in state.forgotten:
        return Code.NOT_ALLOWED, (
            f"An operator has removed {event.peer_id} from the network: join again with a new key.")
    if identity is not None and identity.role != "peer":
        return Code.NOT_ALLOWED, f"{event.peer_id} is a {identity.role}, not a peer."
    if event.peer_id not in state.peers and len(state.peers) >= limits.MAX_PEERS:
        return Code.LIMIT_EXCEEDED, f"This broker knows {limits.MAX_PEERS} peers, its limit."
    if event.availability not in drain.AVAILABILITIES:
        return Code.INVALID_ARGUMENT, f"Nobody can be {event.availability[:80]!r}."
    for what, count, most in (
        ("leases", len(event.leases), limits.MAX_HELD_LEASES),
        ("standbys", len(event.standbys), limits.MAX_HELD_STANDBYS),
        ("snapshots", len(event.snapshots), limits.MAX_HELD_SNAPSHOTS),
    ):
        if count > most:
            return Code.LIMIT_EXCEEDED, f"{count} {what} named; at most {most}. Restart the peer."
    texts = {
        "peer_id": event.peer_id,
        "session_id": event.session_id,
        "tensor_address": event.tensor_address,
    }
    for field, text in texts.items():
        if not 0 < len(text) <= limits.MAX_TEXT or not text.isprintable():
            return Code.INVALID_ARGUMENT, (
                f"{field} must have 1 to {limits.MAX_TEXT} printable characters.")
    return _problem_with_hardware(event.hardware)


def _problem_with_hardware(hardware: PeerHardware) -> tuple[Code, str] | None:
    if hardware.memory_bytes <= 0:
        return Code.INVALID_ARGUMENT, (
            f"hardware.memory_bytes is {hardware.memory_bytes}; expected at least 1.")
    if problem := problem_with_rates(hardware.rates):
        return Code.INVALID_ARGUMENT, f"hardware.rates: {problem}."
    return None


# --- leases of a peer that registers -------------------------------------------------------------


def _compare_leases(turn: Turn, peer: PeerRecord, held: tuple[HeldLease, ...]) -> None:
    """Re-issue what the peer should hold or know and does not; revoke what it should not hold."""
    phases = {(item.job_id, item.segment, item.token): item.phase for item in held}
    standbys = set(peer.standbys)
    for lease in list(peer.leases.values()):
        phase = phases.get((lease.job_id, lease.index, lease.token))
        if lease.phase is LeasePhase.REVOKED:
            _compare_revoked(turn, lease, phase)
        elif phase is None:
            _assign_again(turn, peer, lease)
        else:
            _remind(turn, turn.state.jobs[lease.job_id], lease)
    for item in held:
        if find(peer, item.job_id, item.segment, item.token) is None and item.token not in standbys:
            _revoke_unknown(turn, peer, item)


def _remind(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    """A peer that still has its segment may have missed what was said meanwhile."""
    if lease.phase is LeasePhase.RUNNING:
        lease.deadline_ns = None
    tell(turn, job, lease, again=True)
    tell_all(turn, job)  # its address may be another
    if job.state in STARTED:
        pool.plan_snapshots(turn, job, lease, again=True)
        completion = snapshots.completion(turn, job, lease)
        if completion is not None:
            turn.emit(completion)


def _compare_standbys(turn: Turn, peer: PeerRecord, held: tuple[HeldStandby, ...]) -> None:
    """The same for what the peer stands by for."""
    levels = {item.token: item.level for item in held}
    for standby in list(peer.standbys.values()):
        job = turn.state.jobs[standby.job_id]
        level = levels.get(standby.token, "")
        standby.level = level if level in LEVELS else ""
        job.is_review_due = True
        pool.tell_duty(turn, job, standby)
    for item in held:
        if item.token not in peer.standbys:
            _revoke_unknown(turn, peer, item)


def _compare_revoked(turn: Turn, lease: LeaseRecord, phase: str | None) -> None:
    if phase is None:
        release(turn, lease)
        return
    lease.deadline_ns = turn.now_ns + limits.RELEASE_TIMEOUT_MS * NS_PER_MS
    turn.emit(revocation(lease, "the lease was taken back while the peer was away"))


def _assign_again(turn: Turn, peer: PeerRecord, lease: LeaseRecord) -> None:
    """The peer does not hold what it should: its process is new, or it never heard of it.

    Before it has started it loads the segment again. After that its state is gone. The cause may
    still be on its way, as the peer sends its unacknowledged reports right after it registers; so
    the segment is vacant only after a short grace. A finished one's log is gone.
    """
    job = turn.state.jobs[lease.job_id]
    if lease.phase in (LeasePhase.ASSIGNED, LeasePhase.READY):
        takeover.assign_again(turn, job, lease)
    elif lease.phase is LeasePhase.RUNNING:
        lease.deadline_ns = turn.now_ns + turn.state.policy.takeover_grace_ms * NS_PER_MS
    elif lease.phase is LeasePhase.FINISHED:
        losses.log_lost(turn, lease, peer, "came back without its log")


def _revoke_unknown(turn: Turn, peer: PeerRecord, item: HeldLease | HeldStandby) -> None:
    text = (f"Peer {peer.label} still holds segment {item.segment} of {item.job_id} under token "
            f"{item.token}, which is stale.")
    turn.note(peer.peer_id, "stale_token", text)
    turn.emit(
        RevokeSegment(
            peer_id=peer.peer_id,
            job_id=item.job_id,
            segment=item.segment,
            token=item.token,
            reason="the lease was taken back while the peer was away",
        )
    )


# --- loss ----------------------------------------------------------------------------------------


def disconnected(turn: Turn, event: PeerDisconnected) -> None:
    """The stream of a peer ended: suspect, unless a newer session has replaced it."""
    state = turn.state
    peer = state.peers.get(event.peer_id)
    if peer is None or not event.session_id or peer.session_id != event.session_id:
        return
    peer.session_id = ""
    grace_ms = _grace_ms(state, peer)
    what = f"closed its stream and did not come back within {grace_ms / 1000:g} s"
    _suspect(turn, peer, what, grace_ms * NS_PER_MS)
    if _is_missed(state, peer):
        _lose_killed(turn, peer)


def _grace_ms(state: State, peer: PeerRecord) -> int:
    """Time to come back: short where all that the peer holds can go on elsewhere at once."""
    held = [lease for lease in peer.leases.values() if lease.phase in HELD_PHASES]
    covered = held and all(
        state.jobs[lease.job_id].state in STARTED
        and pool.is_covered(state, state.jobs[lease.job_id], lease.index) for lease in held)
    return state.policy.takeover_grace_ms if covered else state.policy.reconnect_grace_ms


def _is_missed(state: State, peer: PeerRecord) -> bool:
    """Whether a neighbour of one of its segments has lost the peer too."""
    return any(losses.is_missed(job, peer) for job in pool.jobs_of(state, peer))


def neighbour_lost(
    turn: Turn, job: JobRecord, lease: LeaseRecord, event: NeighbourLost
) -> None:
    """A segment lacks a neighbour.

    Its peer was killed, the two cannot reach each other, or (CONFLICT) the reporter's log does not
    reach back far enough to serve it: then all segments go back.
    """
    if not 0 <= event.neighbour < len(job.leases) or job.state not in STARTED:
        return
    other = job.leases[event.neighbour]
    if event.code == Code.CONFLICT:
        position = snapshots.common_position(turn.state, job)
        takeover.go_back_to(turn, job, position, event.message)
        takeover.recover(turn, job)
        return
    if other.peer_id != event.blamed_peer or takeover.is_vacant(other):
        return
    losses.note_trouble(turn, job, lease, event.neighbour, event.message)
    peer = turn.state.peers[other.peer_id]
    if peer.state is PeerState.SUSPECT and not peer.session_id:
        _lose_killed(turn, peer)


def _lose_killed(turn: Turn, peer: PeerRecord) -> None:
    """Broker and neighbour have lost a peer together: waiting for it would be in vain."""
    peer.trouble = "closed its streams to the broker and to a neighbour at once"
    _lose_unless_braked(turn, peer)


def _lose_unless_braked(turn: Turn, peer: PeerRecord) -> None:
    """Give a suspect peer up, unless so many are suspect that the broker suspects itself."""
    state = turn.state
    suspects = [other for other in state.peers.values() if other.state is PeerState.SUSPECT]
    live = sum(other.state is PeerState.LIVE for other in state.peers.values())
    together = len(suspects) >= limits.BRAKE_PEERS and (
        len(suspects) >= limits.BRAKE_SHARE * (live + len(suspects)))
    brake_ns = peer.suspect_at_ns + state.policy.mass_loss_grace_ms * NS_PER_MS
    if not together or turn.now_ns >= brake_ns:
        _lose(turn, peer)
        return
    peer.deadline_ns = brake_ns
    text = (f"{len(suspects)} of {live + len(suspects)} peers are silent at once: nobody is given "
            f"up for {state.policy.mass_loss_grace_ms / 1000:g} s.")
    turn.note(peer.peer_id, "mass_loss_brake", text)


def _suspect(turn: Turn, peer: PeerRecord, trouble: str, grace_ns: int) -> None:
    if peer.state is not PeerState.SUSPECT:
        peer.suspect_at_ns = turn.now_ns
    peer.state = PeerState.SUSPECT
    peer.trouble = trouble
    peer.deadline_ns = turn.now_ns + grace_ns
    cluster_changed(turn.state)
    peer.judged_at_ns = turn.now_ns
    text = f"Peer {peer.label} has {grace_ns / 1e9:g} s to come back."
    turn.note(peer.peer_id, "peer_suspect", text)


def heartbeats(state: State, event: HeartbeatsSeen) -> None:
    """Remember signs of life. Draws no conclusion: that is for the next `TimerFired`."""
    for peer_id in event.peer_ids:
        peer = state.peers.get(peer_id)
        if peer is not None and peer.session_id:
            peer.last_seen_ns = max(peer.last_seen_ns, event.at_ns)


def silent_peers(state: State, at_ns: int) -> tuple[str, ...]:
    """Connected peers not heard of for a lease's time to live, by id. Cost: O(peers log peers)."""
    ttl_ns = state.policy.lease_ttl_ms * NS_PER_MS
    return tuple(
        peer_id
        for peer_id, peer in sorted(state.peers.items())
        if peer.session_id and at_ns - peer.last_seen_ns >= ttl_ns
    )


def time_passed(turn: Turn, silent: frozenset[str]) -> None:
    """Draw the conclusions from silence and from deadlines, peer by peer, in the order of ids."""
    for _, peer in sorted(turn.state.peers.items()):
        if peer.session_id:
            _judge_connected(turn, peer, peer.peer_id in silent)
        elif peer.deadline_ns is not None and peer.deadline_ns <= turn.now_ns:
            _lose_unless_braked(turn, peer)
        for lease in list(peer.leases.values()):
            _judge_missing(turn, peer, lease)
        for lease in release_overdue(turn, peer):
            lease.deadline_ns = turn.now_ns + limits.RELEASE_TIMEOUT_MS * NS_PER_MS
            seconds = limits.RELEASE_TIMEOUT_MS // 1000
            _end_session(turn, peer, Code.TIMED_OUT, f"A revoked segment is held for {seconds} s.")


def _judge_connected(turn: Turn, peer: PeerRecord, is_silent: bool) -> None:
    policy = turn.state.policy
    if not is_silent:
        if peer.state is PeerState.SUSPECT:
            _revive(turn, peer)
            turn.note(peer.peer_id, "peer_live", f"Peer {peer.label} is heard again.")
    elif peer.state is PeerState.LIVE:
        grace_ms = _grace_ms(turn.state, peer)
        trouble = (f"was silent for {policy.lease_ttl_ms / 1000:g} s and did not come back within "
                   f"{grace_ms / 1000:g} s")
        _suspect(turn, peer, trouble, grace_ms * NS_PER_MS)
    else:
        peer.judged_at_ns = turn.now_ns
        if peer.deadline_ns is not None and peer.deadline_ns <= turn.now_ns:
            _lose_unless_braked(turn, peer)


def _judge_missing(turn: Turn, peer: PeerRecord, lease: LeaseRecord) -> None:
    if lease.deadline_ns is None or not peer.session_id or lease.deadline_ns > turn.now_ns:
        return
    if lease.phase is LeasePhase.RUNNING:
        losses.segment_lost(turn, lease, peer, "came back without the segment")
        release_revoked(turn, lease)
    elif lease.phase is LeasePhase.ASSIGNED:
        takeover.not_ready_in_time(turn, lease)


def shut_out(ban: BanRecord) -> str:
    """What a banned member is told."""
    why = f": {ban.reason}" if ban.reason else "."
    return f"An operator has shut this member out of the network{why}"


def banned(turn: Turn, peer: PeerRecord, ban: BanRecord) -> None:
    """Give a peer up that an operator has shut out."""
    if peer.state is PeerState.LOST:
        return
    peer.trouble = f"was banned by {ban.by}"
    if peer.session_id:
        _end_session(turn, peer, Code.NOT_ALLOWED, shut_out(ban))
        peer.session_id = ""
    _lose(turn, peer)


def _lose(turn: Turn, peer: PeerRecord) -> None:
    """Give a peer up. Segments that others hold for the same jobs are revoked with the jobs."""
    peer.state = PeerState.LOST
    peer.deadline_ns = None
    cluster_changed(turn.state)
    turn.note(peer.peer_id, "peer_lost", f"Peer {peer.label} {peer.trouble}.")
    if peer.session_id:
        _end_session(turn, peer, Code.TIMED_OUT, f"The peer {peer.trouble}.")
        peer.session_id = ""
    for standby in list(peer.standbys.values()):
        pool.forget_standby(turn.state, standby)
    for lease in list(peer.leases.values()):
        if lease.phase in HELD_PHASES or lease.phase is LeasePhase.FINISHED:
            losses.segment_lost(turn, lease, peer, peer.trouble)


def _end_session(turn: Turn, peer: PeerRecord, code: str, message: str) -> None:
    turn.emit(
        DisconnectPeer(
            peer_id=peer.peer_id, session_id=peer.session_id, code=code, message=message
        )
    )


def next_deadline_ns(state: State) -> int | None:
    """When `time_passed` has something to conclude about a peer. Cost: O(peers)."""
    times: list[int] = []
    for peer in state.peers.values():
        times.extend(_deadlines(state, peer))
    return min(times, default=None)


def _deadlines(state: State, peer: PeerRecord) -> list[int]:
    times = [] if peer.deadline_ns is None else [peer.deadline_ns]
    drained_ns = drain.next_deadline_ns(peer, state.now_ns)
    if drained_ns is not None:
        times.append(drained_ns)
    if peer.session_id:
        if peer.state is PeerState.LIVE:
            times.append(peer.last_seen_ns + state.policy.lease_ttl_ms * NS_PER_MS)
        elif peer.last_seen_ns > peer.judged_at_ns:
            times.append(peer.last_seen_ns)
        times.extend(
            lease.deadline_ns for lease in peer.leases.values() if lease.deadline_ns is not None
        )
    return times
