"""Every command that a page tells people to type exists, and takes those options."""

from __future__ import annotations

import click
import pytest

from tests.documented import (
    PROGRAMS,
    Line,
    command_lines,
    command_of,
    mentions,
    own_command,
    parse,
)

SYNTAX = frozenset("[|…")
"""A line with one of these describes what can be typed, and is not typed as it stands."""

LINES = [line for line in command_lines()
         if own_command(line.text) and not SYNTAX & set(line.text) and "..." not in line.text]


@pytest.mark.parametrize("line", LINES, ids=[f"{line.page}: {line.text}" for line in LINES])
def test_a_documented_command_exists(line: Line) -> None:
    parse(own_command(line.text))


def unknown_in(span: str) -> list[str]:
    """Options in a mention that its command does not take; what stands for values is not looked at.

    Raises:
        click.UsageError: there is no such command.
    """
    command, rest = command_of(own_command(span.split("[")[0].split("|")[0]))
    taken = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    written = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    return sorted(written - taken - {"-h", "--help"})


def test_every_command_that_a_page_mentions_exists() -> None:
    found = mentions()
    assert len(found) > 100
    wrong = []
    for line in found:
        try:
            wrong += [(line, option) for option in unknown_in(line.text)]
        except click.UsageError as error:
            wrong.append((line, error.message))
    assert not wrong


@pytest.mark.parametrize(("span", "unknown"), [
    ("peer pause [30m | until 18:00] [--deadline 60s]", []), ("broker keys create", []),
    ("peer join --memory", []), ("peer join --memori 6GiB", ["--memori"]),
])
def test_an_option_that_does_not_exist_is_seen(span: str, unknown: list[str]) -> None:
    assert unknown_in(span) == unknown


def test_the_pages_are_read() -> None:
    assert {own_command(line.text)[0] for line in LINES} == set(PROGRAMS)
    assert len(LINES) > 40


@pytest.mark.parametrize("text", [
    "broker frobnicate", "peer join nas.local:7700", "peer join nas.local:7700 --kee x",
    "sudo -u homespun /opt/homespun/bin/broker keys creat", "homespun submit",
    "peer run --executor abacus",
])
def test_a_command_that_does_not_exist_is_seen(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse(own_command(text))


@pytest.mark.parametrize("text", ["docker compose run broker broker init", "make demo", "ls peer"])
def test_what_only_mentions_a_program_is_left_alone(text: str) -> None:
    assert own_command(text) == []
