"""The `peer` command: lend this machine's device to a network."""

from __future__ import annotations

from collections.abc import Sequence

import click

from homespun.cli.lazy import LazyGroup
from homespun.cli.output import silence_grpc

_COMMANDS = {
    "join": "peer.cli.join:join",
    "run": "peer.cli.run:run",
    "status": "peer.cli.status:status",
    "pause": "peer.cli.availability:pause",
    "resume": "peer.cli.availability:resume",
    "finish": "peer.cli.availability:finish",
    "leave": "peer.cli.availability:leave",
    "set": "peer.cli.settings:set_one",
    "get": "peer.cli.settings:get",
    "check": "peer.cli.check:check",
    "netcheck": "peer.cli.check:netcheck",
    "rates": "peer.cli.rates:rates",
    "top": "peer.cli.top:top",
    "bundle": "peer.cli.bundle:bundle",
    "earnings": "peer.cli.earnings:earnings",
    "service": "peer.cli.service:service",
    "completion": "homespun.cli.completion:completion",
}


@click.group(
    cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="homespun", prog_name="peer")
def cli() -> None:
    """Lend this machine to a network of peers that train and run models together.

    \b
    Example:
      peer join 192.168.1.10:7700 --key hsk1_... --memory 6GiB
      peer run
      peer pause 30m
      peer set schedule 22:00-07:00 daily

    Jobs are data, never code: a peer runs operators from a closed list and nothing else. Exit
    codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 unreachable or timed out, 9
    incompatible version, 78 bad configuration.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with an exit code."""
    silence_grpc()
    cli(args=list(argv) if argv is not None else None, prog_name="peer")
