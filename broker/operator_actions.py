"""What an operator can do, each thing in one way: called by the gRPC service and by the console.

Every action says who acts and why; both are part of the event that is journalled, so that the audit
log is a reading of the journal.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass

from broker.core import events as ev
from broker.core import operator_views, views
from broker.core.limits import DRAIN_MAX_MS, MAX_REASON
from broker.driver import Driver
from broker.rpc.bounds import check_whole, shown
from homespun.errors import Code, HomespunError
from homespun.identity import join_key

KEY_LIFETIME_MS_MAX = 366 * 86_400_000
KEY_ROLES = ("peer", "submitter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, by a verified identity, and why; the reason may be "".

    Raises:
        HomespunError: LIMIT_EXCEEDED or INVALID_ARGUMENT for a reason that is too long, or that
            has control characters.
    """

    by: str
    reason: str = ""

    def __post_init__(self) -> None:
        if len(self.reason) > MAX_REASON:
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"The reason has {len(self.reason)} characters; at most {MAX_REASON}.")
        if not self.reason.isprintable():
            raise HomespunError(
                Code.INVALID_ARGUMENT, "The reason must be one line without control characters.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeKey:
    """A new join key: its text, which is shown once, and when it ends."""

    text: str
    key_id: str
    expires_at_ns: int


class OperatorActions:
    """Turns an operator's wishes into events and waits until they are durable.

    All methods raise `HomespunError`: the core's refusal, NOT_FOUND or CONFLICT where a text names
    no peer or job, or several; OVERLOADED, TIMED_OUT.
    """

    def __init__(self, driver: Driver, root_fingerprint: bytes, enrolment_port: int) -> None:
        """Act on the broker of `driver`; the other two go into join keys."""
        self._driver = driver
        self._root_fingerprint = root_fingerprint
        self._enrolment_port = enrolment_port

    async def drain_peer(
        self, actor: Actor, peer: str, *, deadline_ms: int = 0, undo: bool = False
    ) -> str:
        """Have a peer emptied, or used again; its id. `deadline_ms`: from now, 0 for no hurry."""
        check_whole("deadline_ms", deadline_ms, 0, DRAIN_MAX_MS)
        peer_id = self.find_peer(peer)
        await self._driver.ask(ev.DrainRequested(
            at_ns=0, request_id=_request_id(), peer_id=peer_id, by=actor.by, reason=actor.reason,
            deadline_ms=deadline_ms, undo=undo))
        return peer_id

    async def admit_peer(self, actor: Actor, peer: str) -> str:
        """Let a pending peer take part; its id."""
        peer_id = self.find_member(peer)
        await self._driver.ask(ev.PeerAdmitted(
            at_ns=0, request_id=_request_id(), peer_id=peer_id, by=actor.by,
            reason=actor.reason))
        return peer_id

    async def ban_member(self, actor: Actor, member: str, *, undo: bool = False) -> str:
        """Shut a peer or submitter out, or in again; its id."""
        member_id = self.find_member(member)
        await self._driver.ask(ev.MemberBanned(
            at_ns=0, request_id=_request_id(), member_id=member_id, by=actor.by,
            reason=actor.reason, undo=undo))
        return member_id

    async def forget_peer(self, actor: Actor, peer: str) -> str:
        """Remove a peer that is lost or banned and holds nothing; its id."""
        peer_id = self.find_member(peer)
        await self._driver.ask(ev.PeerForgotten(
            at_ns=0, request_id=_request_id(), peer_id=peer_id, by=actor.by,
            reason=actor.reason))
        return peer_id

    async def label_peer(self, actor: Actor, peer: str, label: str) -> str:
        """Call a peer something; its id."""
        peer_id = self.find_peer(peer)
        await self._driver.ask(ev.PeerLabelled(
            at_ns=0, request_id=_request_id(), peer_id=peer_id, label=label, by=actor.by,
            reason=actor.reason))
        return peer_id

    async def create_key(
        self, actor: Actor, role: str, *, lifetime_ms: int, reusable: bool = False,
        needs_admission: bool = False,
    ) -> MadeKey:
        """Make a join key. Its secret is in the answer and nowhere else.

        Args:
            actor: who and why.
            role: of who joins: `peer` or `submitter`.
            lifetime_ms: how long it can be used.
            reusable: whether more than one can join with it.
            needs_admission: whether a peer that joins with it waits until it is admitted.
        """
        if role not in KEY_ROLES:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"a key is for one of {KEY_ROLES}, not {shown(role, 40)!r}")
        if not 0 < lifetime_ms <= KEY_LIFETIME_MS_MAX:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"a key lives 1 ms to 366 days; {lifetime_ms} ms were asked for")
        key = join_key.mint(
            secrets.token_bytes, enrolment_port=self._enrolment_port,
            root_fingerprint=self._root_fingerprint)
        expires_at_ns = self._driver.now_ns() + lifetime_ms * 1_000_000
        await self._driver.ask(ev.KeyCreated(
            at_ns=0, request_id=_request_id(), key_id=key.key_id,
            secret_hash=join_key.secret_hash(key.secret), role=role, reusable=reusable,
            expires_at_ns=expires_at_ns, needs_admission=needs_admission, by=actor.by,
            reason=actor.reason))
        return MadeKey(text=key.text, key_id=key.key_id, expires_at_ns=expires_at_ns)

    async def revoke_key(self, actor: Actor, key: str) -> str:
        """Make a key useless; its id. Who has joined with it stays."""
        key_id = self.find_key(key)
        await self._driver.ask(ev.KeyRevoked(
            at_ns=0, request_id=_request_id(), key_id=key_id, by=actor.by, reason=actor.reason))
        return key_id

    async def cancel_job(self, actor: Actor, job: str, owner_id: str | None = None) -> str:
        """End a job, of that owner if one is given; its id."""
        job_id = self.find_job(job, owner_id)
        await self._driver.ask(ev.CancelRequested(
            at_ns=0, request_id=_request_id(), job_id=job_id, by=actor.by, reason=actor.reason))
        return job_id

    def find_peer(self, text: str) -> str:
        """The one peer that an operator means: by its id, the beginning of it, or its name."""
        found = operator_views.matching_peers(self._driver.core, text)
        return only_one(found, text, "peer", "broker peers")

    def find_member(self, text: str) -> str:
        """The one peer or submitter that an operator means, whether or not it ever connected."""
        found = operator_views.matching_members(self._driver.core, text)
        return only_one(found, text, "member", "broker members")

    def find_key(self, text: str) -> str:
        """The one join key whose id begins so."""
        found = operator_views.matching_keys(self._driver.core, text)
        return only_one(found, text, "key", "broker keys list")

    def find_job(self, text: str, owner_id: str | None = None) -> str:
        """The one job whose id begins so, of that owner if one is given."""
        found = views.matching_jobs(self._driver.core, text, owner_id)
        return only_one(found, text, "job", "homespun jobs" if owner_id else "broker jobs")


def only_one(found: tuple[str, ...], text: str, kind: str, listing: str) -> str:
    """The one id that a person means with `text`; `listing`: the command that shows all.

    Raises:
        HomespunError: NOT_FOUND for none, CONFLICT for several.
    """
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:5])
        raise HomespunError(
            Code.CONFLICT,
            f"{shown(text, 40)!r} may mean {len(found)} {kind}s ({some}); give more of the id")
    raise HomespunError(
        Code.NOT_FOUND, f"there is no {kind} {shown(text, 40)!r}: `{listing}` lists them")


def _request_id() -> str:
    return uuid.uuid4().hex
