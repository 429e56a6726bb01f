"""`broker admit`, `ban`, `unban`, `label`: what an operator decides about members."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.done import say_done
from broker.cli.operator_call import call_operator
from broker.cli.place import directory_option, reason_option
from homespun.cli.output import json_option, run_command


@click.command()
@click.argument("peer", metavar="PEER")
@reason_option
@directory_option
@json_option
@run_command
def admit(peer: str, reason: str, directory: Path | None, as_json: bool) -> None:
    """Let a peer take part that has joined with a key that needs it.

    PEER is its id, the beginning of it, or its name. `broker peers` shows who is pending.

    \b
    Example:
      broker keys create --reusable --needs-admission
      broker admit attic
    """
    from homespun.v1 import operator_pb2

    request = operator_pb2.AdmitPeerRequest(peer=peer, reason=reason)
    peer_id = call_operator(directory, "AdmitPeer", request).peer_id
    say_done("admit", peer_id, f"Admitted {peer_id}.", as_json=as_json)


@click.command()
@click.argument("member", metavar="MEMBER")
@reason_option
@directory_option
@json_option
@run_command
def ban(member: str, reason: str, directory: Path | None, as_json: bool) -> None:
    """Shut a peer or submitter out, at once and until `broker unban`.

    What a peer holds goes to its backups; the jobs of a submitter stay. MEMBER is an id, the
    beginning of one, or a name.

    \b
    Example:
      broker ban attic -m "sold the card"
    """
    member_id = _ban(directory, member, reason, undo=False)
    say_done("ban", member_id, f"Banned {member_id}.", as_json=as_json)


@click.command()
@click.argument("member", metavar="MEMBER")
@reason_option
@directory_option
@json_option
@run_command
def unban(member: str, reason: str, directory: Path | None, as_json: bool) -> None:
    """Let a member come back that was banned."""
    member_id = _ban(directory, member, reason, undo=True)
    say_done("unban", member_id, f"{member_id} may come back.", as_json=as_json)


@click.command()
@click.argument("peer", metavar="PEER")
@click.argument("label", metavar="LABEL")
@reason_option
@directory_option
@json_option
@run_command
def label(
    peer: str, label: str, reason: str, directory: Path | None, as_json: bool
) -> None:
    """Say what a peer is to you; "" takes it back. Commands then know it by its label too.

    \b
    Example:
      broker label peer_7f "Anna's gaming PC"
    """
    from homespun.v1 import operator_pb2

    request = operator_pb2.LabelPeerRequest(peer=peer, label=label, reason=reason)
    peer_id = call_operator(directory, "LabelPeer", request).peer_id
    say_done("label", peer_id, f"Labelled {peer_id}.", as_json=as_json)


def _ban(directory: Path | None, member: str, reason: str, *, undo: bool) -> str:
    from homespun.v1 import operator_pb2

    request = operator_pb2.BanMemberRequest(member=member, reason=reason, undo=undo)
    return str(call_operator(directory, "BanMember", request).member_id)
