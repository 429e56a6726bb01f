"""What ended a segment: one of eight causes, from what is known, with its evidence.

Pure. The order is from the surest evidence to the weakest: codes that speak of the job, the clock,
how the executor process ended, whether a link is blamed, what frameworks and systems say in their
texts, and last the code alone.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from homespun.causes import AGAINST, CAUSES, Against, Cause, cause_of
from homespun.errors import Code
from homespun.units import format_duration, format_size
from peer.failure_texts import TEXTS

LOW_MEMORY_SHARE = 0.05
"""Less available memory than this share, and the system may end processes."""
CLOCK_JUMP_S = 5.0
"""Apart from a jump, the clock on the wall and the steady one drift by milliseconds a minute."""
EVIDENCE_CHARACTERS = 160
MESSAGE_CHARACTERS_MAX = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureFacts:
    """What is known of a failure; None where a system does not tell.

    Attributes:
        code: an `errors.Code`.
        message: of the error.
        blamed_peer: the peer at the other end of the link that broke, or "".
        exit_status: of the executor process if it has ended: minus the signal's number on POSIX.
        memory_available_bytes: least available memory of the machine shortly before.
        memory_total_bytes: of the machine.
        oom_kills: processes that the system has ended for memory shortly before.
        disk_free_bytes: where the peer's directory is.
        clock_jump_s: what the clock on the wall has gained on the steady one lately; sleep counts.
    """

    code: str
    message: str
    blamed_peer: str = ""
    exit_status: int | None = None
    memory_available_bytes: int | None = None
    memory_total_bytes: int | None = None
    oom_kills: int | None = None
    disk_free_bytes: int | None = None
    clock_jump_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The likeliest cause.

    Attributes:
        cause: what it was.
        evidence: what that rests on, for a person.
        remedy: what to do about it.
    """

    cause: Cause
    evidence: str
    remedy: str

    @property
    def against(self) -> Against:
        """Whom it is counted against."""
        return AGAINST[self.cause]


def diagnose(facts: FailureFacts) -> Diagnosis:
    """Say what a failure was; never raises, as there is always a code."""
    for look in (_job, _clock, _exit, _link, _text):
        if (found := look(facts)) is not None:
            return found
    return _diagnosis(cause_of(facts.code), _quoted(facts.message[:EVIDENCE_CHARACTERS]))


# --- one kind of evidence each -------------------------------------------------------------------


def _job(facts: FailureFacts) -> Diagnosis | None:
    if facts.code != Code.CANCELLED and cause_of(facts.code) is not Cause.JOB:
        return None
    return _diagnosis(Cause.JOB, _quoted(facts.message[:EVIDENCE_CHARACTERS]))


def _clock(facts: FailureFacts) -> Diagnosis | None:
    has_jumped = abs(facts.clock_jump_s) >= CLOCK_JUMP_S
    if facts.code == Code.CERTIFICATE_EXPIRED or (has_jumped and facts.code in _TIMED_CODES):
        jump = format_duration(abs(facts.clock_jump_s))
        direction = "forward" if facts.clock_jump_s > 0 else "back"
        said = f"the clock went {direction} by {jump}; " if has_jumped else ""
        return _diagnosis(Cause.CLOCK, said + _quoted(facts.message[:EVIDENCE_CHARACTERS]))
    return None


def _exit(facts: FailureFacts) -> Diagnosis | None:
    """How the executor process ended, where it did."""
    status = facts.exit_status
    if status is None or facts.code != Code.EXECUTOR_DIED:
        return None
    if status in _WINDOWS_STATUSES:
        cause, name = _WINDOWS_STATUSES[status]
        return _diagnosis(cause, f"the executor process ended with {status:#010X}, {name}")
    number = -status if status < 0 else status - 128 if 128 < status < 160 else 0
    name = _signal_name(number)
    said = f"the executor process ended with {name or f'status {status}'}"
    if name == "SIGKILL":
        return _killed_hard(facts, said)
    cause = _SIGNALS.get(name, Cause.SOFTWARE)
    if name == "SIGBUS" and _is_disk_full(facts):
        cause, said = Cause.DISK, f"{said}; {_disk_words(facts)}"
    return _diagnosis(cause, said)


def _killed_hard(facts: FailureFacts, said: str) -> Diagnosis:
    """SIGKILL leaves no word: the system's own counter and the memory that was left tell."""
    if facts.oom_kills:
        return _diagnosis(
            Cause.DEVICE_MEMORY, f"{said}; the system has ended {facts.oom_kills} process(es) "
            f"for memory{_memory_words(facts)}")
    available, total = facts.memory_available_bytes, facts.memory_total_bytes
    if available is not None and total and available < LOW_MEMORY_SHARE * total:
        return _diagnosis(Cause.DEVICE_MEMORY, said + _memory_words(facts))
    unseen = "" if facts.oom_kills is None else ", and the system counted none ended for memory"
    return _diagnosis(Cause.KILLED, said + _memory_words(facts) + unseen)


def _link(facts: FailureFacts) -> Diagnosis | None:
    if not facts.blamed_peer or facts.code not in _LINK_CODES:
        return None
    text = facts.message[:EVIDENCE_CHARACTERS]
    return _diagnosis(Cause.NETWORK, f"the link to {facts.blamed_peer}: {_quoted(text)}")


def _text(facts: FailureFacts) -> Diagnosis | None:
    """What frameworks, drivers and systems are known to say."""
    message = facts.message[:MESSAGE_CHARACTERS_MAX]
    for text in TEXTS:
        if (match := text.pattern.search(message)) is not None:
            begin = max(0, match.start() - 40)
            quote = message[begin:begin + EVIDENCE_CHARACTERS]
            words = _memory_words(facts) if text.cause is Cause.DEVICE_MEMORY else ""
            if text.cause is Cause.DISK and facts.disk_free_bytes is not None:
                words = f"; {_disk_words(facts)}"
            return _diagnosis(text.cause, _quoted(quote) + words, text.remedy)
    return None


# --- parts ---------------------------------------------------------------------------------------

_TIMED_CODES = frozenset({
    Code.STALLED, Code.TIMED_OUT, Code.UNREACHABLE, Code.NOT_AUTHENTICATED, Code.UNTRUSTED_BROKER,
})
_LINK_CODES = frozenset({
    Code.UNREACHABLE, Code.TIMED_OUT, Code.STALLED, Code.OVERLOADED, Code.PEER_LOST,
    Code.NOT_AUTHENTICATED, Code.UNTRUSTED_BROKER, Code.NOT_ALLOWED,
})
_SIGNALS: Mapping[str, Cause] = {
    "SIGTERM": Cause.KILLED, "SIGINT": Cause.KILLED, "SIGHUP": Cause.KILLED,
    "SIGXCPU": Cause.KILLED, "SIGXFSZ": Cause.DISK,
}
"""Other signals than these and SIGKILL are a program's own doing."""
_WINDOWS_STATUSES: Mapping[int, tuple[Cause, str]] = {
    0xC0000005: (Cause.SOFTWARE, "an access violation"),
    0xC0000006: (Cause.DISK, "an error while a page was read from disk"),
    0xC0000017: (Cause.DEVICE_MEMORY, "no memory"),
    0xC000001D: (Cause.SOFTWARE, "an illegal instruction"),
    0xC00000FD: (Cause.SOFTWARE, "a stack overflow"),
    0xC000012D: (Cause.DEVICE_MEMORY, "the limit on committed memory"),
    0xC0000135: (Cause.SOFTWARE, "a library that was not found"),
    0xC000013A: (Cause.KILLED, "Ctrl-C"),
    0xC0000374: (Cause.SOFTWARE, "a corrupted heap"),
    0xC0000409: (Cause.SOFTWARE, "an abort"),
}
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\uffff]+")
_DISK_FULL_BYTES = 16 * 2**20


def _diagnosis(cause: Cause, evidence: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(cause=cause, evidence=evidence, remedy=remedy or CAUSES[cause].remedy)


def _signal_name(number: int) -> str:
    """POSIX names; on Windows a status is never a signal, but a number can still be named."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "SIGKILL" if number == 9 else ""


def _memory_words(facts: FailureFacts) -> str:
    if facts.memory_available_bytes is None or not facts.memory_total_bytes:
        return ""
    return (f"; {format_size(facts.memory_available_bytes)} of "
            f"{format_size(facts.memory_total_bytes)} of the machine's memory were available")


def _is_disk_full(facts: FailureFacts) -> bool:
    return facts.disk_free_bytes is not None and facts.disk_free_bytes < _DISK_FULL_BYTES


def _disk_words(facts: FailureFacts) -> str:
    return f"{format_size(facts.disk_free_bytes or 0)} are free on the disk"


def _quoted(text: str) -> str:
    return f'"{_UNPRINTABLE.sub(" ", text).strip()}"'
