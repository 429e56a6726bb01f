"""Values of settings as people write them: each kind of value is read and shown here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from homespun.errors import Code, HomespunError
from homespun.identity.address import split_address, with_port
from homespun.units import format_duration, format_size, parse_duration_ms, parse_size
from peer.owner.core.schedule import parse_schedule, schedule_text

AUTO = "auto"
WORD_MAX = 64
OFF_WORDS = frozenset({"off", "none", "no", "unlimited"})
_YES, _NO = frozenset({"yes", "true", "on"}), frozenset({"no", "false", "off"})
_BITS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([kmg]?)bit/s")
_NUMBER = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*(.*)")
_BIT_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of value is written.

    Attributes:
        read: text to value; raises HomespunError INVALID_ARGUMENT.
        show: value to the text that `read` takes.
        form: what to write, for help and messages.
    """

    read: Callable[[str], Any]
    show: Callable[[Any], str]
    form: str


def _yes_or_no(text: str) -> bool:
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise _wrong(text, "yes or no")
    return word in _YES


def _off_or(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: 0 if text.strip().lower() in OFF_WORDS else read(text)


def _zero_as(word: str, show: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: word if value == 0 else show(value)


def _quantity(unit: str) -> Callable[[str], float]:
    """Numbers with one unit, which may be left out as there is no other."""

    def read(text: str) -> float:
        found = _NUMBER.fullmatch(text.strip())
        if found is None or found[2].lower() not in ("", unit.lower(), f"°{unit}".lower()):
            raise _wrong(text, f"a number of {unit}, or off")
        return float(found[1])

    return read


def _rate(text: str) -> int:
    """Bytes per second of `25Mbit/s` or `3MB/s`."""
    lowered = text.strip().lower()
    if found := _BITS.fullmatch(lowered):
        return max(1, round(float(found[1]) * _BIT_FACTORS[found[2]] / 8))
    if not lowered.endswith("/s"):
        raise _wrong(text, "a rate such as 25Mbit/s or 3MB/s, or off")
    return parse_size(lowered.removesuffix("/s"))


def _rate_text(bytes_per_s: int) -> str:
    bits = bytes_per_s * 8
    return f"{bits / 1e6:g}Mbit/s" if bits % 1_000 == 0 else f"{bytes_per_s}B/s"


def _size_text(size_bytes: int) -> str:
    return format_size(size_bytes).replace(" ", "") if _is_round(size_bytes) else f"{size_bytes}B"


def _is_round(size_bytes: int) -> bool:
    return parse_size(format_size(size_bytes)) == size_bytes


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text.strip()) or not low <= int(text) <= high:
            raise _wrong(text, f"a whole number from {low} to {high}")
        return int(text)

    return read


def _name(text: str) -> str:
    name = text.strip()
    if not name or len(name) > 64 or not name.isprintable():
        raise _wrong(text, "1 to 64 printable characters")
    return name


def _programs(text: str) -> tuple[str, ...]:
    if text.strip().lower() in OFF_WORDS | {""}:
        return ()
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _advertised(text: str) -> str:
    address = text.strip()
    if address == AUTO:
        return ""
    split_address(with_port(address, 1))
    return address


def _wrong(text: str, wanted: str) -> HomespunError:
    return HomespunError(
        Code.INVALID_ARGUMENT, f"{text[:60]!r} is not understood: {wanted} expected.",
        value=text[:60])


def one_of(*words: str) -> Kind:
    """One of a few words."""

    def read(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise _wrong(text, " or ".join(words))
        return word

    return Kind(read, str, "|".join(words))


def matching(pattern: str, form: str) -> Kind:
    """A short text of a certain form, in lower case."""

    def read(text: str) -> str:
        word = text.strip().lower()
        if len(word) > WORD_MAX or re.fullmatch(pattern, word) is None:
            raise _wrong(text, form)
        return word

    return Kind(read, str, form)


def whole(low: int, high: int, zero_word: str = "") -> Kind:
    """A whole number; a word may stand for 0."""
    read = _whole(low, high)
    if not zero_word:
        return Kind(read, str, "NUMBER")
    return Kind(lambda text: 0 if text.strip() == zero_word else read(text),
                _zero_as(zero_word, str), f"NUMBER|{zero_word}")


def size(zero_word: str) -> Kind:
    """Bytes; a word stands for 0."""
    return Kind(lambda text: 0 if text.strip() == zero_word else _off_or(parse_size)(text),
                _zero_as(zero_word, _size_text), f"SIZE|{zero_word}")


def quantity(unit: str) -> Kind:
    """A number with one unit, or off."""
    return Kind(_off_or(_quantity(unit)), _zero_as("off", lambda value: f"{value:g}{unit}"),
                f"NUMBER{unit}|off")


ADVERTISED = Kind(_advertised, lambda value: value or AUTO, f"HOST[:PORT]|{AUTO}")
NAME = Kind(_name, str, "NAME")
YES_OR_NO = Kind(_yes_or_no, lambda value: "yes" if value else "no", "yes|no")
DURATION = Kind(lambda text: parse_duration_ms(text) / 1000,
                lambda value: format_duration(value).replace(" ", ""), "DURATION")
RATE = Kind(_off_or(_rate), _zero_as("off", _rate_text), "RATE|off")
PROGRAMS = Kind(_programs, lambda value: ", ".join(value) or "none", "NAME,NAME,...|none")
SCHEDULE = Kind(lambda text: schedule_text(parse_schedule(text)), str, "HOURS DAYS,...|always")
