"""The command lines that README.md and docs/ give to people."""

from __future__ import annotations

import importlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("homespun", "broker", "peer")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_REDIRECTION = re.compile(r"\s[<>]\s*\S+")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_AS_OTHER = re.compile(r"^sudo(\s+-u\s+\w+)?\s+")
_COMMENT = re.compile(r"\s+#\s.*$")


@dataclass(frozen=True, slots=True)
class Line:
    """A command line in a code block of a page."""

    page: str
    text: str


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page that say they are of a language; "" for those that say nothing."""
    return [body for name, body in _BLOCK.findall(page.read_text(encoding="utf-8"))
            if name == language]


def plain(line: str) -> str:
    """A command line without its comment and without where its input and output go."""
    return _REDIRECTION.sub("", _COMMENT.sub("", line)).strip()


def command_lines() -> list[Line]:
    """Every line of the blocks that a reader types, in the order of the pages."""
    return [Line(page.relative_to(ROOT).as_posix(), plain(line))
            for page in PAGES for language in ("", "sh") for block in blocks(page, language)
            for line in block.splitlines() if plain(line)]


def mentions() -> list[Line]:
    """What stands in code spans and calls one of our programs, whole or in part."""
    return [Line(page.relative_to(ROOT).as_posix(), span)
            for page in PAGES
            for span in _SPAN.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
            if own_command(span)]


def own_command(line: str) -> list[str]:
    """The words of a line that calls one of our programs, by its plain name; else nothing."""
    try:
        words = shlex.split(_AS_OTHER.sub("", line))
    except ValueError:
        return []
    if not words or Path(words[0]).name not in PROGRAMS:
        return []
    return [Path(words[0]).name, *words[1:]]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a line calls, and the words that are left for it.

    Raises:
        click.UsageError: there is no such command.
    """
    command: click.Command = importlib.import_module(f"{words[0]}.cli").cli
    context, rest = click.Context(command), list(words[1:])
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"{' '.join(words)}: there is no command {name!r}")
        command = found
    return command, rest


def parse(words: list[str]) -> None:
    """Have click read a command line, without running it.

    Raises:
        click.UsageError: there is no such command or option, or a value that it does not take.
    """
    command, rest = command_of(words)
    try:
        command.make_context(words[0], rest)
    except click.exceptions.Exit:  # --help and --version have their say and end
        pass
    except click.BadParameter as error:
        if "does not exist" not in error.format_message():  # a file that the reader is to have
            raise
