"""The `broker` command: make a network, serve it, look at it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from homespun.cli.lazy import LazyGroup
from homespun.cli.output import silence_grpc

_COMMANDS = {
    "init": "broker.cli.serve:init",
    "serve": "broker.cli.serve:serve",
    "keys": "broker.cli.keys:keys",
    "top": "broker.cli.top:top",
    "peers": "broker.cli.look:peers",
    "peer": "broker.cli.peer:peer",
    "members": "broker.cli.members:members",
    "admit": "broker.cli.members:admit",
    "ban": "broker.cli.members:ban",
    "unban": "broker.cli.members:unban",
    "label": "broker.cli.members:label",
    "forget": "broker.cli.members:forget",
    "drain": "broker.cli.backups:drain",
    "backups": "broker.cli.backups:backups",
    "jobs": "broker.cli.look:jobs",
    "job": "broker.cli.look:job",
    "cancel": "broker.cli.look:cancel",
    "timeline": "broker.cli.history:timeline",
    "placement": "broker.cli.placement:placement",
    "events": "broker.cli.history:events",
    "audit": "broker.cli.history:audit",
    "settings": "broker.cli.settings:settings",
    "db": "broker.cli.database:database",
    "console": "broker.cli.console:console",
    "completion": "homespun.cli.completion:completion",
}


@click.group(
    cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="homespun", prog_name="broker")
def cli() -> None:
    """Run a network of peers that train and run models together.

    \b
    Example:
      broker init ~/homespun --listen 192.168.1.10:7700
      broker serve ~/homespun
      broker keys create --role peer --reusable --expires 7d --dir ~/homespun

    Results go to standard output, notes and errors to standard error. Exit codes: 0 ok, 1 failed,
    2 usage, 3 not found, 4 denied, 5 unreachable, 6 conflict, 78 bad configuration.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with an exit code."""
    silence_grpc()
    cli(args=list(argv) if argv is not None else None, prog_name="broker")
