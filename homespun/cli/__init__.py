"""The `homespun` command: join a network, submit jobs, watch them, fetch results."""

from __future__ import annotations

from collections.abc import Sequence

import click

from homespun.cli.lazy import LazyGroup
from homespun.cli.output import silence_grpc

_COMMANDS = {
    "join": "homespun.cli.join:join",
    "submit": "homespun.cli.submit:submit",
    "plan": "homespun.cli.plan:plan",
    "fleet": "homespun.cli.fleet:fleet",
    "jobs": "homespun.cli.jobs:jobs",
    "job": "homespun.cli.jobs:job",
    "watch": "homespun.cli.jobs:watch",
    "explain": "homespun.cli.placement:explain",
    "timeline": "homespun.cli.placement:timeline",
    "cancel": "homespun.cli.jobs:cancel",
    "download": "homespun.cli.jobs:download",
    "error": "homespun.cli.error:error",
    "completion": "homespun.cli.completion:completion",
}


@click.group(
    cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="homespun", prog_name="homespun")
def cli() -> None:
    """Train and run models on GPUs that people already own.

    Results go to standard output, notes and errors to standard error. Exit codes: 0 ok, 1 failed,
    2 usage, 3 not found, 4 denied, 5 unreachable, 6 conflict, 7 cannot be placed, 8 cancelled.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with an exit code."""
    silence_grpc()
    cli(args=list(argv) if argv is not None else None, prog_name="homespun")
