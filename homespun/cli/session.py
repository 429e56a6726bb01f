"""Options that every command which talks to a broker takes, and the client they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from homespun.cli.output import note

if TYPE_CHECKING:
    from homespun.client import Client

F = TypeVar("F", bound=Callable[..., Any])


def broker_options(command: F) -> F:
    """Add `--address` and `--credentials`."""
    command = click.option(
        "--credentials", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="Directory of your identity. [env: HOMESPUN_CREDENTIALS]")(command)
    return click.option(
        "--address", metavar="HOST:PORT", envvar="HOMESPUN_ADDRESS",
        help="Broker's address, if it has moved. [env: HOMESPUN_ADDRESS]")(command)


@contextmanager
def connected(
    address: str | None, credentials: Path | None, *, quiet: bool = True
) -> Iterator[Client]:
    """A client with the user's identity; `quiet=False` notes what goes on during a submission."""
    from homespun.client import DEFAULT_TIMEOUT_S, Client
    from homespun.connection import open_connection

    connection = open_connection(address, credentials, DEFAULT_TIMEOUT_S)
    with Client(connection, notify=None if quiet else note) as client:
        yield client
