"""What `--json` prints, held against docs/schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"


def problems(text: str) -> list[str]:
    """What is wrong with a document, by the committed schema of the name that it gives."""
    document = json.loads(text)
    path = SCHEMAS / f"{document['schema'].replace('/', '.')}.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    found = Draft202012Validator(strict(schema)).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


def strict(schema: Any) -> Any:
    """The same schema, by which a field that it does not name is wrong."""
    if isinstance(schema, dict):
        closed = {"additionalProperties": False} if "properties" in schema else {}
        return {key: strict(value) for key, value in schema.items()} | closed
    return [strict(each) for each in schema] if isinstance(schema, list) else schema


def commands(cli: click.Group) -> tuple[set[str], set[str]]:
    """The commands of a program that have `--json`, and those that have not."""
    found: dict[bool, set[str]] = {True: set(), False: set()}

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                each = command.get_command(context, name)
                assert each is not None
                walk(each, (*path, name))
        else:
            has = any(parameter.name == "as_json" for parameter in command.params)
            found[has].add(" ".join(path))

    walk(cli, ())
    return found[True], found[False]
