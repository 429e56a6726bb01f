"""`broker console`: a way into the pages that `broker serve` shows."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.done import say_done
from broker.cli.operator_call import call_operator
from broker.cli.place import directory_option
from homespun.cli.output import json_option, note, print_json, run_command


@click.group()
def console() -> None:
    """Sign a browser in to the broker's console."""


@console.command()
@click.option("--role", type=click.Choice(["operator", "viewer"]), default="operator",
              show_default=True, help="What the browser may do: a viewer changes nothing.")
@click.option("--expires", default="10m", show_default=True, metavar="TIME",
              help="How long the link can be used, such as 10m; at most a day.")
@directory_option
@json_option
@run_command
def link(role: str, expires: str, directory: Path | None, as_json: bool) -> None:
    """Print a link that signs one browser in, once.

    The console listens on this machine only, unless broker.json says otherwise. From another one,
    forward its port first: `ssh -L 7702:127.0.0.1:7702 THIS_MACHINE`.

    \b
    Example:
      broker console link
      broker console link --role viewer --expires 1h
    """
    from homespun.units import format_time, parse_duration_ms
    from homespun.v1 import operator_pb2

    request = operator_pb2.CreateConsoleLinkRequest(
        role=role, lifetime_ms=parse_duration_ms(expires))
    made = call_operator(directory, "CreateConsoleLink", request)
    if as_json:
        print_json("console_link", {
            "url": made.url, "role": role, "expires_unix_ms": made.expires_unix_ms})
        return
    click.echo(made.url)
    note(f"Open it in a browser by {format_time(made.expires_unix_ms)}; it works once.")


@console.command("sign-out")
@click.argument("session", metavar="SESSION")
@directory_option
@json_option
@run_command
def sign_out(session: str, directory: Path | None, as_json: bool) -> None:
    """Sign a browser out, such as that of a machine which is lost.

    SESSION is the session's id, or the beginning of it: `broker audit` shows who has signed in.
    """
    from homespun.v1 import operator_pb2

    request = operator_pb2.EndConsoleSessionRequest(session=session)
    ended = call_operator(directory, "EndConsoleSession", request).session_id
    say_done("console sign-out", ended, f"Ended {ended}.", as_json=as_json)
