"""The directive `command-help`: every command of a program, as `--help` prints it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click
from docutils import nodes
from docutils.parsers.rst import Directive

COLUMNS = 96


class CommandHelp(Directive):
    """`command-help PROGRAM`: a section for each command, named as it is typed."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The sections, in the order in which help lists the commands."""
        (program,) = self.arguments
        group = importlib.import_module(f"{program}.cli").cli
        return [_section(name, command) for name, command in _commands(group, program)]


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            child = command.get_command(context, each)
            if child is not None:
                yield from _commands(child, f"{name} {each}")


def _section(name: str, command: click.Command) -> nodes.section:
    context = click.Context(
        command, info_name=name, terminal_width=COLUMNS, max_content_width=COLUMNS)
    text = command.get_help(context)
    section = nodes.section(ids=[nodes.make_id(name)], names=[name])
    section += nodes.title(text=name)
    section += nodes.literal_block(text, text, language="text")
    return section
