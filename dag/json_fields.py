"""Take values out of JSON that a person or another program wrote; every complaint names its place.

Nothing is guessed: a number is a number and no text, a field that is not known is refused because
it is more often a mistyped name than a remark. Names that begin with `_` are remarks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NoReturn

from homespun.errors import Code, HomespunError

LARGEST = 1e30
"""Of any number: products and sums of what is read stay finite."""
SMALLEST = 1e-30
"""Of a number that must be positive: so do quotients."""
MAX_ID_CHARACTERS = 1_024
_NUMBERS = (float, int)  # and no bool


def parse(data: bytes, source: str) -> object:
    """The value that JSON text stands for; NaN and infinities become floats, to be refused later.

    Args:
        data: the text, its size already bounded.
        source: what to call it in messages.

    Raises:
        HomespunError: INVALID_ARGUMENT with line and column, or the field that stands twice.
    """
    try:
        return json.loads(data, object_pairs_hook=lambda pairs: _object(pairs, source))
    except json.JSONDecodeError as error:
        hint = (" JSON has no comments; remove it." if error.doc[error.pos:error.pos + 1] in "/#"
                and error.pos < len(error.doc) else "")
        raise _invalid(
            f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
            f"{hint} Correct it there.") from None
    except RecursionError:
        raise _invalid(f"{source} is nested too deeply to be what it should be.") from None
    except ValueError as error:  # no Unicode text, or a number of thousands of digits
        raise _invalid(f"{source} is not JSON: {error}.") from None


def _object(pairs: list[tuple[str, object]], source: str) -> dict[str, object]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    names = [name for name, _ in pairs]
    double = next(name for number, name in enumerate(names) if name in names[:number])
    where = next((f" of the object with {key} {value[key]!r}" for key in ("id", "src", "schema")
                  if key in value), "")
    raise _invalid(f"{source}: the field '{shown(double)}'{where} is given twice. Keep one.",
                   field=double)


class Fields:
    """One JSON object, asked for its fields one by one."""

    __slots__ = ("_place", "_source", "_values")

    def __init__(
        self, value: object, source: str, place: str, known: frozenset[str]
    ) -> None:
        """Check that it is an object and has no other fields.

        Args:
            value: what stands there.
            source: what to call the whole text in messages.
            place: where the object stands, such as `nodes[3]`; "" for the whole text.
            known: the fields that it may have.

        Raises:
            HomespunError: INVALID_ARGUMENT, as every method here, naming source and place.
        """
        if type(value) is not dict:
            refuse(source, place or "the whole text", "an object", value)
        self._values: dict[str, object] = value
        self._source = source
        self._place = place
        if not value.keys() <= known:
            self._refuse_unknown(known)

    def _refuse_unknown(self, known: frozenset[str]) -> None:
        unknown = [name for name in self._values if name not in known and name[:1] != "_"]
        if unknown:
            raise _invalid(
                f"{self._source}: {self.place(shown(unknown[0]))} is not a known field; expected "
                f"{', '.join(sorted(known))}. Correct its name, or let it begin with '_' if it is "
                "a remark.", field=self.place(unknown[0]))

    def place(self, name: str) -> str:
        """Where a field stands."""
        return f"{self._place}.{name}" if self._place else name

    def has(self, name: str) -> bool:
        """Whether a field is there; one that is null is not."""
        return self._values.get(name) is not None

    def refuse(self, name: str, expected: str, advice: str = "Correct it.") -> NoReturn:
        """Complain about a field."""
        if not self.has(name):
            raise _invalid(
                f"{self._source}: {self.place(name)} is missing; expected {expected}. Add it.",
                field=self.place(name))
        refuse(self._source, self.place(name), expected, self._values[name], advice)

    def refuse_entry(
        self, name: str, key: str, expected: str, advice: str = "Correct it."
    ) -> NoReturn:
        """Complain about an entry of a field whose names are data."""
        refuse(self._source, f"{self.place(name)}['{shown(key)}']", expected,
               self.entries(name)[key], advice)

    def value(self, name: str) -> object:
        """What stands in a field; None if it is not there."""
        return self._values.get(name)

    def number(
        self, name: str, default: float | None = None, *, unit: str, positive: bool = False
    ) -> float:
        """A number that is finite and not negative; with `positive`, above 0."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not is_number(value, positive=positive):
            self.refuse(name, number_expected(unit, positive=positive))
        return float(value)  # type: ignore[arg-type]

    def whole(self, name: str, default: int | None = None, *, at_most: int) -> int:
        """A whole number from 0."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 0 <= value <= at_most:
            self.refuse(name, f"a whole number from 0 to {at_most}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text that is not empty."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not is_id(value):
            self.refuse(name, f"a text of 1 to {MAX_ID_CHARACTERS} characters")
        return str(value)

    def choice(self, name: str, among: Sequence[str], default: str | None = None) -> str:
        """One of some texts."""
        value = self._values.get(name, default)
        if value not in among:
            self.refuse(name, " or ".join(f'"{choice}"' for choice in among))
        return str(value)

    def objects(
        self, name: str, known: frozenset[str], *, at_most: int, at_least: int = 0
    ) -> Iterator[Fields]:
        """The objects of an array; one that is missing is empty."""
        for number, item in enumerate(self.array(name, at_most=at_most, at_least=at_least)):
            yield Fields(item, self._source, f"{self.place(name)}[{number}]", known)

    def array(self, name: str, *, at_most: int, at_least: int = 0) -> list[object]:
        """The entries of an array; one that is missing is empty."""
        value = self._values.get(name)
        items = [] if value is None else value
        if type(items) is not list or len(items) < at_least:
            self.refuse(name, f"an array of at least {at_least} entries")
        if len(items) > at_most:
            raise _invalid(
                f"{self._source}: {self.place(name)} has {len(items)} entries; at most {at_most} "
                "are read. Make it smaller.", field=self.place(name))
        return items

    def entries(self, name: str) -> dict[str, object]:
        """An object whose names are data, such as device ids."""
        value = self._values.get(name)
        if type(value) is not dict:
            self.refuse(name, "an object")
        return value


def is_number(value: object, *, positive: bool = False) -> bool:
    """Whether a value is a number in the range that is read."""
    least = SMALLEST if positive else 0.0
    return type(value) in _NUMBERS and (
        least <= value <= LARGEST)  # type: ignore[operator]  # NaN is in no range


def number_expected(unit: str, *, positive: bool = False) -> str:
    """What `is_number` accepts, in words."""
    least = f"from {SMALLEST:g}" if positive else "from 0"
    return f"a number of {unit} {least} to {LARGEST:g}"


def is_id(value: object) -> bool:
    """Whether a value is a text that can be a name: neither empty nor long, and real Unicode."""
    return (type(value) is str and 0 < len(value) <= MAX_ID_CHARACTERS
            and (value.isascii()
                 or not any("\ud800" <= character <= "\udfff" for character in value)))


def shown(value: object) -> str:
    """A value as a message quotes it: printable and short."""
    if isinstance(value, str):
        text = value
    else:
        try:
            text = json.dumps(value)
        except ValueError:  # an integer of thousands of digits
            text = "a number of very many digits"
    text = "".join(mark if mark.isprintable() else "?" for mark in text[:60])
    return text + ("..." if len(text) == 60 else "")


def refuse(
    source: str, place: str, expected: str, value: object, advice: str = "Correct it."
) -> NoReturn:
    """Raise that something else was expected somewhere."""
    quoted = f'"{shown(value)}"' if isinstance(value, str) else shown(value)
    raise _invalid(f"{source}: {place} is {quoted}; expected {expected}. {advice}", field=place)


def _invalid(message: str, **details: object) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, message, **details)
