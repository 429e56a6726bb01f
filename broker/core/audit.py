"""The audit log: every action of an operator, with who, when, what, why and what came of it.

A reading of the journal, no part of the state: a replay gives the same entries.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

from broker.core import limits
from broker.core.commands import AnyCommand, Reject
from broker.core.events import (
    AnyEvent,
    CancelRequested,
    ConsoleAccessed,
    DrainRequested,
    JournalRestored,
    KeyCreated,
    KeyRevoked,
    MemberBanned,
    PeerAdmitted,
    PeerForgotten,
    PeerLabelled,
)

_OPERATOR = "operator_"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One action.

    Attributes:
        number: from 1, without gaps over the life of the journal.
        at_ns: when, Unix time.
        by: the operator's id; "" where an older broker did not write it down.
        action: what was done, as the command line calls it.
        subject: the job, peer or key that it was done to, or the console's session.
        details: how, such as a deadline; may be "".
        reason: why, in the operator's words; may be "".
        refusal: why it was not done; "" if it was.
    """

    number: int
    at_ns: int
    by: str
    action: str
    subject: str
    details: str
    reason: str
    refusal: str


class AuditLog:
    """The last `limits.AUDIT_ENTRIES` actions."""

    def __init__(self) -> None:
        self._entries: deque[AuditEntry] = deque(maxlen=limits.AUDIT_ENTRIES)
        self._last_number = 0

    def record(self, at_ns: int, event: AnyEvent, commands: list[AnyCommand]) -> None:
        """Add an event if it is an operator's action, with what the core answered."""
        action = _action(event)
        if action is None:
            return
        self._last_number += 1
        by, what, subject, details = action
        refusal = next((each.message for each in commands if isinstance(each, Reject)), "")
        self._entries.append(AuditEntry(
            number=self._last_number, at_ns=at_ns, by=by, action=what, subject=subject,
            details=details, reason=getattr(event, "reason", ""), refusal=refusal))

    def newest(self, limit: int) -> tuple[AuditEntry, ...]:
        """The newest `limit` entries, newest first."""
        return tuple(islice(reversed(self._entries), limit))


def _action(event: AnyEvent) -> tuple[str, str, str, str] | None:
    """Who did what to whom and how; None for what no operator did."""
    match event:
        case KeyCreated():
            details = [event.role, "reusable" if event.reusable else "single use"]
            details += ["needs admission"] * event.needs_admission
            return event.by, "keys create", event.key_id, ", ".join(details)
        case KeyRevoked():
            return event.by, "keys revoke", event.key_id, ""
        case DrainRequested():
            hurry = f"within {event.deadline_ms / 1000:g} s" if event.deadline_ms else ""
            return event.by, "drain --undo" if event.undo else "drain", event.peer_id, hurry
        case PeerAdmitted():
            return event.by, "admit", event.peer_id, ""
        case MemberBanned():
            return event.by, "unban" if event.undo else "ban", event.member_id, ""
        case PeerForgotten():
            return event.by, "forget", event.peer_id, ""
        case PeerLabelled():
            return event.by, "label", event.peer_id, event.label
        case CancelRequested() if event.by.startswith(_OPERATOR):
            return event.by, "cancel", event.job_id, ""
        case ConsoleAccessed():
            return event.by, f"console {event.action}", event.session_id, event.role
        case JournalRestored():
            hours = (event.at_ns - event.copied_at_ns) / 3.6e12
            return event.by, "db restore", "", f"from a copy that was {hours:.1f} h old"
        case _:
            return None
