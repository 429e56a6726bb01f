"""`broker peer`: everything about one peer, as its page in the console shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from broker.cli.history import event_value, print_lines
from broker.cli.look import availability_of, executor_of, plain_value, state_of
from broker.cli.operator_call import call_operator
from broker.cli.place import directory_option
from homespun.cli.output import json_option, print_json, print_table, printable, run_command


@click.command()
@click.argument("peer", metavar="PEER")
@directory_option
@json_option
@run_command
def peer(peer: str, directory: Path | None, as_json: bool) -> None:
    """Show one peer: what it does or why it does nothing, its hardware, rates, links and events.

    PEER is its id, the beginning of it, its name or its label.

    \b
    Example:
      broker peer attic
      broker peer peer_7f --json
    """
    from homespun.v1 import operator_pb2

    found = call_operator(directory, "GetPeer", operator_pb2.GetPeerRequest(peer=peer))
    if as_json:
        print_json("peer_details", {
            "peer": plain_value(found.peer), "idle": list(found.idle),
            "linked": [plain_value(each) for each in found.linked],
            "events": [event_value(line) for line in found.events]})
        return
    _print_facts(_facts(found.peer))
    if not found.peer.leases:
        click.echo("\nWhy it runs nothing:")
        for reason in found.idle:
            click.echo(f"  {printable(reason)}")
    click.echo("\nHardware:")
    _print_facts(_hardware(found.peer.hardware))
    _print_links(found)
    if found.events:
        click.echo("\nWhat happened to it, newest first:")
        print_lines(found.events)


def _facts(peer: Any) -> Iterable[tuple[str, str]]:
    from homespun.units import format_time

    yield "peer", peer.peer_id
    yield "name", peer.name
    yield "label", peer.label or "-"
    yield "state", state_of(peer)
    yield "availability", availability_of(peer)
    yield "runs", _held(peer.leases)
    yield "stands by for", _held(peer.standbys)
    yield "last seen", format_time(peer.last_seen_unix_ms)
    yield "address for tensors", peer.tensor_address
    yield "software", f"{peer.software_version} on {peer.hardware.platform or '-'}"


def _hardware(hardware: Any) -> Iterable[tuple[str, str]]:
    from homespun.units import format_flops, format_size

    yield "device", f"{hardware.device_name or '-'} ({hardware.device})"
    yield "memory offered", format_size(hardware.memory_bytes)
    yield "executor", f"{executor_of(hardware)}, {hardware.threads} threads"
    yield "matrix products", format_flops(hardware.matmul_flops_per_s)
    yield "attention", format_flops(hardware.attention_flops_per_s)
    yield "memory-bound work", f"{format_size(hardware.memory_bytes_per_s)}/s"
    for narrow in hardware.rates.narrow:
        yield f"matrix products in {narrow.dtype}", format_flops(narrow.matmul_flops_per_s)


def _print_links(found: Any) -> None:
    from homespun.units import format_size

    if not found.peer.links:
        click.echo("\nNone of its links has been measured.")
        return
    names = {each.peer_id: each.name for each in found.linked}
    click.echo("\nLinks:")
    print_table(("to", "peer", "latency", "bandwidth"), [
        (names.get(link.to_peer) or "-", link.to_peer, f"{link.latency_s * 1000:.2f} ms",
         f"{format_size(link.bandwidth_bytes_per_s)}/s") for link in found.peer.links])


def _held(held: Sequence[Any]) -> str:
    return ", ".join(f"{one.job_id}/{one.segment}" for one in held) or "-"


def _print_facts(facts: Iterable[tuple[str, str]]) -> None:
    for what, value in facts:
        click.echo(f"{what:<20} {printable(value)}")
