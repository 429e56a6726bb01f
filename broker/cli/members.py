"""`broker members`, and what an operator decides about them: `admit`, `ban`, `label`, `forget`."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.done import say_done
from broker.cli.look import called, state_of
from broker.cli.operator_call import call_operator, stream_operator
from broker.cli.place import directory_option, reason_option
from homespun.cli.output import json_option, print_json, print_table, run_command


@click.command()
@directory_option
@json_option
@run_command
def members(directory: Path | None, as_json: bool) -> None:
    """List everybody who has joined: peers and submitters.

    Of a submitter, "last seen" and the end of its certificate are known since the broker's start.

    \b
    Example:
      broker members
    """
    from homespun.units import format_time
    from homespun.v1 import operator_pb2

    parts = stream_operator(directory, "ListMembers", operator_pb2.ListMembersRequest())
    found = [member for part in parts for member in part.members]
    if as_json:
        print_json("members", {"members": [
            {field.name: getattr(member, field.name) for field in member.DESCRIPTOR.fields}
            for member in found]})
        return
    print_table(
        ("member", "name", "role", "state", "joined", "with key", "last seen", "certificate until",
         "unfinished jobs"),
        [(one.member_id, called(one), one.role,
          state_of(one) or "-", format_time(one.joined_unix_ms), one.key_id or "-",
          format_time(one.last_seen_unix_ms),
          format_time(one.certificate_expires_unix_ms), one.unfinished_jobs) for one in found])


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


@click.command()
@click.argument("peer", metavar="PEER")
@reason_option
@directory_option
@json_option
@run_command
def forget(peer: str, reason: str, directory: Path | None, as_json: bool) -> None:
    """Remove a peer for good that is lost or banned and holds nothing.

    It is in no list any more, and is let in only with a new key. Jobs that it took part in keep its
    name, the audit log what was done.

    \b
    Example:
      broker forget peer_7f -m "joined anew as peer_9c"
    """
    from homespun.v1 import operator_pb2

    request = operator_pb2.ForgetPeerRequest(peer=peer, reason=reason)
    peer_id = call_operator(directory, "ForgetPeer", request).peer_id
    say_done("forget", peer_id, f"Removed {peer_id}.", as_json=as_json)


def _ban(directory: Path | None, member: str, reason: str, *, undo: bool) -> str:
    from homespun.v1 import operator_pb2

    request = operator_pb2.BanMemberRequest(member=member, reason=reason, undo=undo)
    return str(call_operator(directory, "BanMember", request).member_id)
