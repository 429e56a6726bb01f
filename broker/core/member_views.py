"""Who belongs to the network: peers and submitters, whether or not they ever connected."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from broker.core.machine import Broker
from broker.core.state import IdentityRecord, PeerRecord, State


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """A member as an operator sees it.

    Attributes:
        member_id: `peer_...` or `client_...`.
        name: what it calls itself.
        label: what operators call a peer; may be "".
        role: `peer` or `submitter`.
        state: of a peer: `live`, `suspect`, `lost`; "" for a submitter, and before the first time.
        standing: `admitted`, `pending` or `banned`.
        ban_reason: why it is banned; may be "".
        joined_at_ns: when it joined; 0 where that was forgotten by a restore.
        key_id: with which key; "" likewise.
        last_seen_ns: when a peer was last heard of; 0 for never, and for a submitter.
        unfinished_jobs: a submitter's own; of a peer those that it holds a segment of.
    """

    member_id: str
    name: str
    label: str
    role: str
    state: str
    standing: str
    ban_reason: str
    joined_at_ns: int
    key_id: str
    last_seen_ns: int
    unfinished_jobs: int


def members(broker: Broker) -> tuple[MemberView, ...]:
    """All members, by role and name. Cost: O(members log members + unfinished jobs)."""
    state = broker.state
    owned = Counter(job.owner_id for job in state.unfinished.values())
    ids = dict.fromkeys([*state.identities, *state.peers])
    found = [
        _member(state, each, state.identities.get(each), state.peers.get(each), owned[each])
        for each in ids if each not in state.forgotten]
    return tuple(sorted(found, key=lambda one: (one.role, one.name, one.member_id)))


def _member(
    state: State, member_id: str, identity: IdentityRecord | None, peer: PeerRecord | None,
    owned: int,
) -> MemberView:
    ban = state.banned.get(member_id)
    known = peer or identity
    assert known is not None
    held = {lease.job_id for lease in peer.leases.values()} if peer is not None else set()
    return MemberView(
        member_id=member_id,
        name=known.name,
        label=peer.operator_label if peer is not None else "",
        role=identity.role if identity is not None else "peer",
        state=peer.state.value if peer is not None else "",
        standing="banned" if ban is not None else "pending" if known.is_pending else "admitted",
        ban_reason=ban.reason if ban is not None else "",
        joined_at_ns=identity.admitted_at_ns if identity is not None else 0,
        key_id=identity.key_id if identity is not None else "",
        last_seen_ns=peer.last_seen_ns if peer is not None else 0,
        unfinished_jobs=owned if peer is None else len(held & state.unfinished.keys()))
