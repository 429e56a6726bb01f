"""What a field of a stranger's message may be: the checks, in one place.

A message that breaks one comes from no honest peer. It is refused before it becomes an event, so
that it does not even reach the journal.
"""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite

from broker.core.limits import MAX_TEXT
from homespun.errors import Code, HomespunError
from homespun.ids import is_digest


def shown(text: str, limit: int = MAX_TEXT) -> str:
    """A peer's text, safe to store and to print: bounded, one line, no control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def check_count(what: str, had: int, most: int) -> None:
    """Refuse too many of something.

    Raises:
        HomespunError: LIMIT_EXCEEDED.
    """
    if had > most:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"The peer names {had} {what}; at most {most} are taken. Restart the peer.")


def check_texts(**texts: str) -> None:
    """Refuse an overlong text, or one with control characters; INVALID_ARGUMENT."""
    for field, text in texts.items():
        if len(text) > MAX_TEXT or not text.isprintable():
            raise _invalid(field, f"must have at most {MAX_TEXT} printable characters")


def check_whole(field: str, value: int, least: int, most: int) -> None:
    """Refuse a whole number out of its range; INVALID_ARGUMENT."""
    if not least <= value <= most:
        raise _invalid(field, f"is {value}; expected {least} to {most}")


def check_number(field: str, value: float, most: float) -> None:
    """Refuse what is not a finite number from 0 to `most`; INVALID_ARGUMENT."""
    if not (isfinite(value) and 0 <= value <= most):
        raise _invalid(field, f"is {value}; expected 0 to {most:g}")


def check_digest(field: str, text: str) -> None:
    """Refuse what has not the form of a digest; INVALID_ARGUMENT."""
    if not is_digest(text):
        raise _invalid(field, "must be 64 lower-case hexadecimal characters")


def check_member(field: str, text: str, known: Collection[str]) -> None:
    """Refuse a text that is not in a closed set; INVALID_ARGUMENT."""
    if text not in known:
        expected = ", ".join(repr(each) for each in sorted(known))
        raise _invalid(field, f"is {shown(text, 40)!r}; expected one of {expected}")


def _invalid(field: str, text: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, f"Field {field} {text}.", field=field)
