"""`broker keys`: join keys for peers and submitters."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.done import say_done
from broker.cli.operator_call import call_operator
from broker.cli.place import broker_directory, directory_option, reason_option
from homespun.cli.output import json_option, note, print_json, print_table, run_command


@click.group()
def keys() -> None:
    """Make, list and revoke join keys."""


@keys.command()
@click.option("--role", type=click.Choice(["peer", "submitter"]), default="peer",
              show_default=True, help="What the holder becomes.")
@click.option("--reusable", is_flag=True, help="Let any number of machines join with it.")
@click.option("--expires", default="1h", show_default=True, metavar="TIME",
              help="How long it can be used, such as 30m or 7d.")
@click.option("--needs-admission", is_flag=True,
              help="Let peers that join with it wait for `broker admit`.")
@reason_option
@directory_option
@json_option
@run_command
def create(
    role: str, reusable: bool, expires: str, needs_admission: bool, reason: str,
    directory: Path | None, as_json: bool,
) -> None:
    """Make a join key. It is shown once; only a hash of its secret is kept.

    \b
    Example:
      broker keys create --reusable --expires 7d
      broker keys create --role submitter
    """
    from homespun.units import format_time, parse_duration_ms
    from homespun.v1 import operator_pb2

    request = operator_pb2.CreateKeyRequest(
        role=role, reusable=reusable, lifetime_ms=parse_duration_ms(expires),
        needs_admission=needs_admission, reason=reason)
    made = call_operator(directory, "CreateKey", request)
    if as_json:
        print_json("key", {
            "key": made.key, "key_id": made.key_id, "role": role, "reusable": reusable,
            "needs_admission": needs_admission,
            "expires_unix_ms": made.expires_unix_ms})
        return
    click.echo(made.key)
    verb = "peer" if role == "peer" else "homespun"
    note(f"Valid until {format_time(made.expires_unix_ms)}, "
         f"{'any number of times' if reusable else 'once'}. On the other machine:")
    note(f"  {verb} join {_address(directory)} --key {made.key[:12]}...")


@keys.command("list")
@directory_option
@json_option
@run_command
def list_keys(directory: Path | None, as_json: bool) -> None:
    """List the join keys, without their secrets."""
    from homespun.units import format_time
    from homespun.v1 import operator_pb2

    found = call_operator(directory, "ListKeys", operator_pb2.ListKeysRequest()).keys
    if as_json:
        print_json("keys", {"keys": [
            {"key_id": key.key_id, "role": key.role, "reusable": key.reusable, "uses": key.uses,
             "revoked": key.revoked, "needs_admission": key.needs_admission,
             "expires_unix_ms": key.expires_unix_ms} for key in found]})
        return
    print_table(
        ("key", "role", "reusable", "needs admission", "uses", "revoked", "expires"),
        [(key.key_id, key.role, _yes(key.reusable), _yes(key.needs_admission), key.uses,
          _yes(key.revoked), format_time(key.expires_unix_ms)) for key in found])


@keys.command()
@click.argument("key_id", metavar="KEY_ID")
@reason_option
@directory_option
@json_option
@run_command
def revoke(key_id: str, reason: str, directory: Path | None, as_json: bool) -> None:
    """Make a join key useless. Who has joined with it stays.

    KEY_ID is the key's id, or the beginning of it.
    """
    from homespun.v1 import operator_pb2

    request = operator_pb2.RevokeKeyRequest(key_id=key_id, reason=reason)
    revoked = call_operator(directory, "RevokeKey", request).key_id
    say_done("keys revoke", revoked, f"Revoked {revoked}.", as_json=as_json)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _address(directory: Path | None) -> str:
    return broker_directory(directory).load_settings().address
