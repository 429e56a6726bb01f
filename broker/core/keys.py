"""Join keys and the identities admitted with them.

A key's secret never reaches the core, only its hash, and hashes are compared in constant time, also
when the key is unknown. A single-use key is consumed by the same event that admits its holder.
"""

from __future__ import annotations

from hmac import compare_digest

from broker.core import limits
from broker.core.commands import AdmitIdentity, Reject, Reply
from broker.core.events import EnrolmentRequested, KeyCreated, KeyRevoked
from broker.core.state import IdentityRecord, KeyRecord, State, Turn
from homespun.errors import Code
from homespun.ids import is_id

ROLE_PREFIX = {"peer": "peer", "submitter": "client"}
"""Role of a key -> prefix of the identities that it admits."""
_NO_HASH = "0" * 64


def created(turn: Turn, event: KeyCreated) -> None:
    """Take a new key in."""
    problem = _problem_with_key(turn.state, event)
    if problem is not None:
        code, message = problem
        turn.emit(Reject(request_id=event.request_id, code=code, message=message))
        return
    turn.state.keys[event.key_id] = KeyRecord(
        key_id=event.key_id,
        secret_hash=event.secret_hash,
        role=event.role,
        reusable=event.reusable,
        expires_at_ns=event.expires_at_ns,
        needs_admission=event.needs_admission,
    )
    turn.emit(Reply(request_id=event.request_id, value=event.key_id))
    turn.note(event.key_id, "key_created", f"A key for the role {event.role!r} was created.")


def _problem_with_key(state: State, event: KeyCreated) -> tuple[Code, str] | None:
    if not 0 < len(event.key_id) <= limits.MAX_TEXT or event.key_id in state.keys:
        return Code.CONFLICT, f"The key id {event.key_id[:80]!r} is empty, too long, or taken."
    if not 0 < len(event.secret_hash) <= limits.MAX_TEXT:
        return Code.INVALID_ARGUMENT, "The hash of the key's secret is empty or too long."
    if event.role not in ROLE_PREFIX:
        return Code.INVALID_ARGUMENT, (
            f"The role {event.role[:80]!r} is not one of {', '.join(ROLE_PREFIX)}.")
    if event.needs_admission and event.role != "peer":
        return Code.INVALID_ARGUMENT, "Only peers can be admitted later; a submitter is at once."
    if event.expires_at_ns <= state.now_ns:
        return Code.INVALID_ARGUMENT, "The key would be expired from the start."
    if len(state.keys) >= limits.MAX_KEYS:
        _forget_dead_keys(state)
    if len(state.keys) >= limits.MAX_KEYS:
        return Code.LIMIT_EXCEEDED, (
            f"{limits.MAX_KEYS} keys are usable already, the limit. Revoke some first.")
    return None


def _forget_dead_keys(state: State) -> None:
    """Make room: an unknown key and a dead one are refused alike."""
    state.keys = {
        key_id: key
        for key_id, key in state.keys.items()
        if not _is_spent(key) and key.expires_at_ns > state.now_ns
    }


def revoked(turn: Turn, event: KeyRevoked) -> None:
    """Make a key useless. Identities that were admitted with it stay."""
    key = turn.state.keys.get(event.key_id)
    if key is None:
        message = f"There is no key {event.key_id[:80]!r}."
        turn.emit(Reject(request_id=event.request_id, code=Code.NOT_FOUND, message=message))
        return
    key.is_revoked = True
    turn.emit(Reply(request_id=event.request_id, value=event.key_id))
    turn.note(event.key_id, "key_revoked", "The key was revoked.")


def enrolment_requested(turn: Turn, event: EnrolmentRequested) -> None:
    """Admit the holder of a valid key, or say why not."""
    state = turn.state
    key = state.keys.get(event.key_id)
    problem = _problem_with_enrolment(state, event, key)
    if problem is not None or key is None:
        code, message = problem or (Code.WRONG_KEY, "The join key is not valid.")
        turn.emit(Reject(request_id=event.request_id, code=code, message=message))
        return
    identity = f"{ROLE_PREFIX[key.role]}_{event.new_id}"
    key.uses += 1
    state.identities[identity] = IdentityRecord(
        identity=identity,
        role=key.role,
        name=event.name,
        key_id=key.key_id,
        admitted_at_ns=turn.now_ns,
        is_pending=key.needs_admission,
    )
    turn.emit(AdmitIdentity(request_id=event.request_id, identity=identity, role=key.role))
    then = " and waits to be admitted" if key.needs_admission else ""
    turn.note(identity, "identity_admitted", f"{event.name} joined as {key.role}{then}.")


def _problem_with_enrolment(
    state: State, event: EnrolmentRequested, key: KeyRecord | None
) -> tuple[Code, str] | None:
    expected = _NO_HASH if key is None else key.secret_hash
    is_right = compare_digest(_comparable(expected), _comparable(event.secret_hash))
    if key is None or not is_right or _is_spent(key):
        return Code.WRONG_KEY, "The join key is not valid: unknown, revoked, or already used."
    if key.expires_at_ns <= state.now_ns:
        return Code.KEY_EXPIRED, f"The join key {key.key_id} has expired."
    if event.wanted_role not in ("", key.role):
        return Code.WRONG_KEY, (
            f"The join key was made for the role {key.role}, not for {event.wanted_role[:40]!r}. "
            "It can still be used.")
    if not 0 < len(event.name) <= limits.MAX_NAME or not event.name.isprintable():
        return Code.INVALID_ARGUMENT, (
            f"The name must have 1 to {limits.MAX_NAME} printable characters.")
    prefix = ROLE_PREFIX[key.role]
    identity = f"{prefix}_{event.new_id}"
    if not is_id(identity, prefix):
        return Code.INVALID_ARGUMENT, f"The identity {identity[:80]!r} is malformed."
    if identity in state.identities or identity in state.peers or identity in state.forgotten:
        return Code.CONFLICT, f"The identity {identity} is taken. Try again."
    if len(state.identities) >= limits.MAX_IDENTITIES:
        return Code.LIMIT_EXCEEDED, (
            f"This broker has admitted {limits.MAX_IDENTITIES} identities, its limit.")
    return None


def _is_spent(key: KeyRecord) -> bool:
    return key.is_revoked or (key.uses > 0 and not key.reusable)


def _comparable(text: str) -> bytes:
    """Bytes for a constant-time comparison, which refuses non-ASCII text."""
    return text.encode("utf-8", "surrogatepass")
