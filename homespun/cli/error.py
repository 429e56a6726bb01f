"""`homespun error`: what an error's code means and what to do about it, without any network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from homespun.cli.output import json_option, print_json, print_table, run_command

if TYPE_CHECKING:
    from homespun.errors import Code


@click.command()
@click.argument("code", metavar="[CODE]", required=False)
@json_option
@run_command
def error(code: str | None, as_json: bool) -> None:
    """Say what an error's CODE means and what to do; without CODE, list all of them.

    CODE is what stands in brackets after an error's message, such as CANNOT_PLACE.
    """
    from homespun.errors import CATALOG, CLASSES, HomespunError

    chosen = list(CATALOG) if code is None else [_known(code)]
    found = [{
        "code": str(each), "meaning": CATALOG[each].meaning, "remedy": CATALOG[each].remedy,
        "exit_code": CATALOG[each].exit_code, "grpc_status": CATALOG[each].grpc_status,
        "exception": CLASSES.get(each, HomespunError).__name__} for each in chosen]
    if as_json:
        print_json("errors", {"errors": found})
    elif code is None:
        print_table(("code", "exit", "meaning"), [
            (each["code"], each["exit_code"], each["meaning"]) for each in found])
    else:
        _explain(**found[0])


def _known(text: str) -> Code:
    """The code that somebody has typed, in any case, with - for _.

    Raises:
        HomespunError: NOT_FOUND, with those that are like it.
    """
    from difflib import get_close_matches

    from homespun.errors import Code, HomespunError

    name = text.strip("[] ").upper().replace("-", "_")
    if name in Code.__members__:
        return Code(name)
    like = " or ".join(get_close_matches(name, list(Code.__members__), 3))
    raise HomespunError(
        Code.NOT_FOUND, f"There is no error code {text!r}."
        + (f" Did you mean {like}?" if like else " Without a code, all are listed."))


def _explain(
    code: str, meaning: str, remedy: str, exit_code: int, grpc_status: str, exception: str
) -> None:
    click.echo(f"{code}\n\n{meaning}\n\nWhat to do: {remedy}\n")
    click.echo(f"exit code of a command  {exit_code}")
    click.echo(f"in Python               homespun.{exception} with homespun.Code.{code}")
    click.echo(f"gRPC status             {grpc_status}")
