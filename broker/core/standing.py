"""What operators decide about members: admitted, shut out, and what they call them."""

from __future__ import annotations

from broker.core import limits, membership, snapshots
from broker.core.commands import AdmitIdentity, Reject, Reply
from broker.core.events import (
    LateRenewalRequested,
    MemberBanned,
    PeerAdmitted,
    PeerForgotten,
    PeerLabelled,
)
from broker.core.leases import release_revoked
from broker.core.links import probe_newcomer
from broker.core.state import (
    BanRecord,
    IdentityRecord,
    PeerRecord,
    PeerState,
    State,
    Turn,
    cluster_changed,
)
from homespun.errors import Code


def admitted(turn: Turn, event: PeerAdmitted) -> None:
    """Let a pending peer take part, connected or not. An admitted one stays so."""
    state = turn.state
    peer, identity = _known(state, event.peer_id)
    if peer is None and (identity is None or identity.role != "peer"):
        _refuse(turn, event.request_id, Code.NOT_FOUND, f"There is no peer {event.peer_id[:80]!r}.")
        return
    if identity is not None:
        identity.is_pending = False
    if peer is not None and peer.is_pending:
        peer.is_pending = False
        cluster_changed(state)
        if peer.is_present:
            probe_newcomer(turn, peer)
    turn.emit(Reply(request_id=event.request_id, value=event.peer_id))
    turn.note(event.peer_id, "peer_admitted",
              f"{_named(state, event.peer_id)} is admitted, says {_who(event)}")


def banned(turn: Turn, event: MemberBanned) -> None:
    """Shut a member out, at once and for as long as nobody takes it back."""
    state = turn.state
    if _known(state, event.member_id) == (None, None):
        _refuse(turn, event.request_id, Code.NOT_FOUND,
                f"There is no member {event.member_id[:80]!r}.")
        return
    if event.undo:
        state.banned.pop(event.member_id, None)
    elif event.member_id not in state.banned and len(state.banned) >= limits.MAX_BANNED:
        _refuse(turn, event.request_id, Code.LIMIT_EXCEEDED,
                f"{limits.MAX_BANNED} members are shut out, the limit.")
        return
    else:
        ban = BanRecord(
            by=event.by, reason=event.reason[: limits.MAX_REASON], at_ns=turn.now_ns)
        state.banned[event.member_id] = ban
        if event.member_id in state.peers:
            membership.banned(turn, state.peers[event.member_id], ban)
    turn.emit(Reply(request_id=event.request_id, value=event.member_id))
    what = "may come back" if event.undo else "is banned"
    turn.note(event.member_id, "member_unbanned" if event.undo else "member_banned",
              f"{_named(state, event.member_id)} {what}, says {_who(event)}")


def late_renewal_requested(turn: Turn, event: LateRenewalRequested) -> None:
    """Let a member whose certificate has expired have another, unless it is shut out."""
    state = turn.state
    peer, known = _known(state, event.identity)
    if known is None and peer is None:  # a peer without identity: after a restore
        _refuse(turn, event.request_id, Code.NOT_ALLOWED,
                f"This broker knows no {event.identity[:80]}: join again with a new key.")
        return
    if event.identity in state.banned:
        _refuse(turn, event.request_id, Code.NOT_ALLOWED,
                f"{event.identity} has been shut out of this network.")
        return
    turn.emit(AdmitIdentity(
        request_id=event.request_id, identity=event.identity,
        role="peer" if known is None else known.role))
    hours = (turn.now_ns - event.expired_at_ns) / 3.6e12
    turn.note(event.identity, "identity_renewed_late",
              f"{_named(state, event.identity)} renewed a certificate that had ended {hours:.1f} h "
              "ago.")


def labelled(turn: Turn, event: PeerLabelled) -> None:
    """Call a peer something; its own name stays."""
    peer, _ = _known(turn.state, event.peer_id)
    if peer is None:
        _refuse(turn, event.request_id, Code.NOT_FOUND, f"There is no peer {event.peer_id[:80]!r}.")
        return
    if len(event.label) > limits.MAX_NAME or not event.label.isprintable():
        _refuse(turn, event.request_id, Code.INVALID_ARGUMENT,
                f"A label must have at most {limits.MAX_NAME} printable characters.")
        return
    peer.operator_label = event.label
    turn.emit(Reply(request_id=event.request_id, value=event.peer_id))
    turn.note(event.peer_id, "peer_labelled",
              f"Peer {peer.label} is labelled {event.label!r}, says {_who(event)}")


def forgotten(turn: Turn, event: PeerForgotten) -> None:
    """Remove a peer that is gone and holds nothing, and let it in no more.

    Cost: O(measured links + snapshots of unfinished jobs).
    """
    state = turn.state
    peer, identity = _known(state, event.peer_id)
    problem = _problem_with_removal(state, event.peer_id, peer, identity)
    if problem is not None:
        _refuse(turn, event.request_id, *problem)
        return
    name = _named(state, event.peer_id)
    for lease in list(peer.leases.values()) if peer is not None else ():
        release_revoked(turn, lease)  # nobody is left to confirm it
    state.identities.pop(event.peer_id, None)
    state.banned.pop(event.peer_id, None)
    state.links = {
        pair: known for pair, known in state.links.items() if event.peer_id not in pair}
    state.forgotten[event.peer_id] = turn.now_ns
    turn.emit(Reply(request_id=event.request_id, value=event.peer_id))
    turn.note(event.peer_id, "peer_forgotten", f"{name} is removed, says {_who(event)}")


def _problem_with_removal(
    state: State, peer_id: str, peer: PeerRecord | None, identity: IdentityRecord | None
) -> tuple[Code, str] | None:
    if peer is None and (identity is None or identity.role != "peer"):
        return Code.NOT_FOUND, f"There is no peer {peer_id[:80]!r}."
    if peer is not None and peer.state is not PeerState.LOST:
        return Code.CONFLICT, (
            f"{peer.label} is {peer.state}. Only a peer that is lost or banned can be removed: "
            "`broker ban` shuts one out.")
    for job in state.unfinished.values():
        if any(peer_id in snapshots.every_holder(record)
               for taken in job.snapshots for record in taken.values()):
            return Code.CONFLICT, (
                f"{_named(state, peer_id)} has a snapshot of {job.job_id}, which may need it: wait "
                "until the job has ended, or cancel it.")
    if len(state.forgotten) >= limits.MAX_BANNED:
        return Code.LIMIT_EXCEEDED, f"{limits.MAX_BANNED} peers were removed, the limit."
    return None


def _known(state: State, member_id: str) -> tuple[PeerRecord | None, IdentityRecord | None]:
    """What is known of a member; nothing of one that was removed."""
    if member_id in state.forgotten:
        return None, None
    return state.peers.get(member_id), state.identities.get(member_id)


def _named(state: State, member_id: str) -> str:
    peer, identity = state.peers.get(member_id), state.identities.get(member_id)
    name = peer.name if peer is not None else identity.name if identity is not None else ""
    return f"{name} ({member_id})"


def _who(event: PeerAdmitted | MemberBanned | PeerLabelled | PeerForgotten) -> str:
    why = f": {event.reason[: limits.MAX_REASON]}" if event.reason else "."
    return f"{event.by}{why}"


def _refuse(turn: Turn, request_id: str, code: Code, message: str) -> None:
    turn.emit(Reject(request_id=request_id, code=code, message=message))
