"""How every command talks: results on stdout, notes and errors on stderr, one exit code each.

Shared by `homespun`, `broker` and `peer`. Nothing heavy is imported here.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ParamSpec, TypeVar

import click

from homespun.errors import Code, HomespunError

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130
SCHEMA_VERSION = 1
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
TRACEBACK_VARIABLE = "HOMESPUN_TRACEBACK"

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
)
"""Give it to every command that reads; `run_command` then also prints errors as JSON."""


def silence_grpc() -> None:
    """Keep gRPC's own lines off the terminal; it reads the variable when it is first imported.

    What matters of them, such as a failed handshake, comes out of the call as an error.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def run_command(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command's function: errors become a message and an exit code.

    Put it under click's own decorators, next to the function. `HomespunError` exits with the code's
    exit code, an interrupt with 130, a closed pipe silently with 1, anything unexpected as INTERNAL
    (set HOMESPUN_TRACEBACK=1 to see where).
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json = bool(kwargs.get("as_json", False))
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader went away (`homespun jobs | head`): nothing left to say, and nowhere to.
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            raise SystemExit(1) from None
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            print_error(as_error(error), as_json=as_json)
            if os.environ.get(TRACEBACK_VARIABLE):
                traceback.print_exc()
            raise SystemExit(as_error(error).exit_code) from None

    return wrapped


def as_error(error: Exception) -> HomespunError:
    """What an exception means to the user: itself, a full disk, an unusable path, or a defect."""
    if isinstance(error, HomespunError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return HomespunError(Code.DISK_FULL, f"No space is left for {error.filename!r}.")
    if isinstance(error, OSError) and error.filename is not None:
        return HomespunError(
            Code.BAD_CONFIGURATION,
            f"{error.filename!r} cannot be used: {error.strerror}.",
            path=error.filename,
        )
    return HomespunError(
        Code.INTERNAL,
        f"{type(error).__name__}: {error} (set {TRACEBACK_VARIABLE}=1 to see where).",
    )


def print_error(error: HomespunError, *, as_json: bool = False) -> None:
    """Write an error to stderr: for people with its remedy, or as `{"error": {...}}`."""
    if as_json:
        click.echo(json.dumps({"error": error_value(error)}), err=True)
        return
    click.echo(f"Error: {printable(error.message)} [{error.code}]", err=True)
    click.echo(f"  {error.remedy}", err=True)
    click.echo(f"  More about it: homespun error {error.code}", err=True)


def error_value(error: HomespunError) -> dict[str, object]:
    """An error as plain data: code, message, hint, page, exit code, details."""
    return {
        "code": str(error.code),
        "message": error.message,
        "hint": error.remedy,
        "doc": f"docs/errors/{error.code.lower()}.md",
        "exit_code": error.exit_code,
        "details": error.details,
    }


def print_json(schema: str, value: Mapping[str, object]) -> None:
    """Write one JSON object on one line to stdout.

    Args:
        schema: what it is, such as `job` or `peers`; its fields stay the same within one
            `schema_version`.
        value: fields; numbers that are not finite become null (JSON has none).
    """
    print_document({"schema": schema, "schema_version": SCHEMA_VERSION, **value})


def print_document(document: Mapping[str, object]) -> None:
    """Write one JSON object, which names its own schema, on one line to stdout."""
    click.echo(json.dumps(_finite(document), ensure_ascii=False, allow_nan=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write aligned columns to stdout."""
    for line in table_lines(headings, rows):
        click.echo(line)


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Lines of aligned columns. A column whose cells are all numbers is right-aligned."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(headings), *cells])
              for column in range(len(headings))]
    right = [bool(cells) and all(_is_number(row[column]) for row in cells)
             for column in range(len(headings))]
    for line in [list(headings), *cells]:
        padded = [text.rjust(width) if flush else text.ljust(width)
                  for text, width, flush in zip(line, widths, right, strict=True)]
        yield "  ".join(padded).rstrip()


def note(text: str) -> None:
    """Write a line for people to stderr: progress, hints, what to run next."""
    click.echo(text, err=True)


def printable(text: str) -> str:
    """Text without control characters: names come from other machines, terminals obey escapes."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _is_number(text: str) -> bool:
    return text in ("-", "") or text.replace(".", "", 1).replace("-", "", 1).isdigit()


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
