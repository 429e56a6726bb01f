"""One converter between frozen dataclasses and protobuf messages with the same field names.

```
to_message(JobSpec(...), job_pb2.JobSpec)  ->  job_pb2.JobSpec
from_message(message, JobSpec)             ->  JobSpec(...)
```
The two classes must have exactly the same fields; one that was added later is `optional` in the
schema, and where a message of before does not set it, the dataclass's default stands. A difference
is a defect of this program and raises `TypeError` when a pair is first used. Bad *values* are the
sender's fault and raise `HomespunError(INVALID_ARGUMENT)` with the path of the field. Names are
taken from the two classes only, never from a message. Meaning (ranges, references between fields)
is checked by whoever receives the value.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from homespun.errors import Code, HomespunError

MessageT = TypeVar("MessageT", bound=Message)
DataT = TypeVar("DataT")

_INTEGERS = frozenset({
    FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SINT64,
})
_WIRE_TYPES: dict[type, frozenset[int]] = {
    int: _INTEGERS,
    float: frozenset({FieldDescriptor.TYPE_DOUBLE}),  # a float field would lose digits
    bool: frozenset({FieldDescriptor.TYPE_BOOL}),
    str: frozenset({FieldDescriptor.TYPE_STRING}),
    bytes: frozenset({FieldDescriptor.TYPE_BYTES}),
}


@dataclass(frozen=True, slots=True)
class _Field:
    """How one field travels.

    Attributes:
        name: in both classes.
        repeated: a tuple on one side, a repeated field on the other.
        optional: `T | None`: an unset message is None.
        scalar: the Python type of a scalar (`str` for an enumeration), None for a message.
        enum: the enumeration that a string stands for.
        added: a scalar that messages of before lack: unset, it takes the dataclass's default.
        data_class: the dataclass of a nested message.
        descriptor: the protobuf descriptor of that nested message.
    """

    name: str
    repeated: bool
    optional: bool
    scalar: type | None
    added: bool
    enum: type[StrEnum] | None
    data_class: type | None
    descriptor: Any


def to_message(value: Any, message_class: type[MessageT]) -> MessageT:
    """Convert a frozen dataclass to a protobuf message. Cost: linear in its size.

    Raises:
        HomespunError: INVALID_ARGUMENT when a value has the wrong type or does not fit its field.
        TypeError: when the classes differ (a defect).
    """
    message = message_class()
    _fill(message, value, type(value).__name__)
    return message


def from_message(message: Message, data_class: type[DataT]) -> DataT:
    """Convert a protobuf message to a frozen dataclass. Cost: linear in its size.

    Raises:
        HomespunError: INVALID_ARGUMENT when an enumeration has an unknown text or a nested message
            is missing; names the path of the field.
        TypeError: when the classes differ (a defect).
    """
    built: DataT = _build(message, data_class, data_class.__name__)
    return built


def check_pair(data_class: type, message_class: type[Message]) -> None:
    """Check that two classes have the same fields, nested ones included.

    Raises:
        TypeError: names the fields that differ.
    """
    _check_pair(data_class, message_class.DESCRIPTOR)


def _check_pair(data_class: Any, descriptor: Any) -> None:
    for field in _plan(data_class, descriptor):
        if field.data_class is not None:
            _check_pair(field.data_class, field.descriptor)


def _fill(message: Message, value: Any, path: str) -> None:
    data_class: Any = type(value)
    for field in _plan(data_class, message.DESCRIPTOR):
        _fill_field(message, field, getattr(value, field.name), f"{path}.{field.name}")


def _fill_field(message: Message, field: _Field, value: Any, path: str) -> None:
    if value is None and field.optional:
        return
    if field.data_class is not None:
        _fill_messages(message, field, value, path)
        return
    items = _items(value, path) if field.repeated else (value,)
    for item in items:
        _check_scalar(field, item, path)
    try:
        if field.repeated:
            getattr(message, field.name).extend(items)
        else:
            setattr(message, field.name, value)
    except (TypeError, ValueError) as error:  # out of the field's range, or no Unicode text
        raise _invalid(path, f"does not fit: {error}") from error


def _fill_messages(message: Message, field: _Field, value: Any, path: str) -> None:
    target = getattr(message, field.name)
    if not field.repeated:
        _check_class(field, value, path)
        target.SetInParent()
        _fill(target, value, path)
        return
    for index, item in enumerate(_items(value, path)):
        _check_class(field, item, f"{path}[{index}]")
        _fill(target.add(), item, f"{path}[{index}]")


def _build(message: Message, data_class: type, path: str) -> Any:
    arguments = {
        field.name: _build_field(message, field, f"{path}.{field.name}")
        for field in _plan(data_class, message.DESCRIPTOR)
        if not field.added or message.HasField(field.name)
    }
    return data_class(**arguments)


def _build_field(message: Message, field: _Field, path: str) -> Any:
    raw = getattr(message, field.name)
    if field.data_class is not None:
        nested = field.data_class
        if field.repeated:
            return tuple(_build(item, nested, f"{path}[{i}]") for i, item in enumerate(raw))
        if message.HasField(field.name):
            return _build(raw, nested, path)
        if field.optional:
            return None
        raise _invalid(path, "is missing")
    if field.enum is None:
        return tuple(raw) if field.repeated else raw
    if field.repeated:
        return tuple(_member(field.enum, text, path) for text in raw)
    return _member(field.enum, raw, path)


def _member(enum: type[StrEnum], text: str, path: str) -> StrEnum:
    try:
        return enum(text)
    except ValueError:
        expected = ", ".join(enum)
        raise _invalid(path, f"has the unknown value {text[:40]!r}; expected: {expected}") from None


def _items(value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise _invalid(path, f"must be a tuple, not {type(value).__name__}")
    return value


def _check_class(field: _Field, value: Any, path: str) -> None:
    if type(value) is not field.data_class:
        wanted = field.data_class.__name__ if field.data_class else "?"
        raise _invalid(path, f"must be {wanted}, not {type(value).__name__}")


def _check_scalar(field: _Field, value: Any, path: str) -> None:
    wanted = field.enum or field.scalar
    accepted: tuple[type, ...] = (float, int) if wanted is float else (wanted or str,)
    # bool is an int in Python; a True in a number field is a mistake of the caller.
    if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
        name = wanted.__name__ if wanted else "?"
        raise _invalid(path, f"must be {name}, not {type(value).__name__}")


def _invalid(path: str, text: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, f"Field {path} {text}.", field=path)


@lru_cache(maxsize=256)
def _plan(data_class: Any, descriptor: Any) -> tuple[_Field, ...]:
    """Pair the fields of two classes, once per pair."""
    class_name = data_class.__name__
    if not is_dataclass(data_class):
        raise TypeError(f"{class_name} is not a dataclass")
    hints = get_type_hints(data_class)
    names = tuple(field.name for field in fields(data_class))
    wire = descriptor.fields_by_name
    if difference := sorted(set(names) ^ set(wire)):
        raise TypeError(
            f"{class_name} and message {descriptor.full_name} differ in {difference}")
    return tuple(
        _plan_field(f"{class_name}.{name}", name, hints[name], wire[name])
        for name in names)


def _plan_field(path: str, name: str, hint: Any, descriptor: Any) -> _Field:
    kind, repeated, optional = _unwrap(path, hint)
    enum = kind if isinstance(kind, type) and issubclass(kind, StrEnum) else None
    nested: Any = kind if is_dataclass(kind) else None
    scalar: Any = None if nested else (str if enum else kind)
    matches = (
        descriptor.type == FieldDescriptor.TYPE_MESSAGE if nested
        else descriptor.type in _WIRE_TYPES.get(scalar, frozenset()))
    if not matches or descriptor.is_repeated != repeated or (optional and not nested):
        raise TypeError(f"{path}: {hint} does not match its field of {descriptor.full_name}")
    return _Field(
        name=name, repeated=repeated, optional=optional, scalar=scalar, enum=enum,
        added=descriptor.has_presence and nested is None,
        data_class=nested, descriptor=descriptor.message_type)


def _unwrap(path: str, hint: Any) -> tuple[Any, bool, bool]:
    """Split a type into its element type, whether it is a tuple, and whether it may be None."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        inner = [item for item in arguments if item is not NoneType]
        if len(inner) == 1 and len(arguments) == 2:
            return inner[0], False, True
    elif get_origin(hint) is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return arguments[0], True, False
    elif get_origin(hint) is None:
        return getattr(hint, "__supertype__", hint), False, False  # NewType: its base
    raise TypeError(f"{path}: {hint} cannot travel in a protobuf message")
