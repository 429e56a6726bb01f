"""Every command that a page tells people to type exists, and takes those options."""

from __future__ import annotations

import click
import pytest

from tests.documented import PROGRAMS, Line, command_lines, own_command, parse

SYNTAX = frozenset("[|…")
"""A line with one of these describes what can be typed, and is not typed as it stands."""

LINES = [line for line in command_lines()
         if own_command(line.text) and not SYNTAX & set(line.text) and "..." not in line.text]


@pytest.mark.parametrize("line", LINES, ids=[f"{line.page}: {line.text}" for line in LINES])
def test_a_documented_command_exists(line: Line) -> None:
    parse(own_command(line.text))


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
