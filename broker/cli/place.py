"""Which broker a command is about: its directory, and a connection as its operator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import grpc

    from broker.settings import BrokerDirectory

F = TypeVar("F", bound=Callable[..., Any])

DIRECTORY_VARIABLE = "HOMESPUN_BROKER_DIR"
CALL_TIMEOUT_S = 30.0


def directory_option(command: F) -> F:
    """Add `--dir`."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help=f"The broker's directory. [env: {DIRECTORY_VARIABLE}; default: this directory if it "
        "is one, else the user's data directory]",
    )(command)


def reason_option(command: F) -> F:
    """Add `-m`, the reason that the audit log keeps."""
    return click.option("-m", "--reason", default="", metavar="TEXT",
                        help="Why, for the audit log.")(command)


def broker_directory(given: Path | None) -> BrokerDirectory:
    """The directory that a command means: as given, by environment, here, or the default."""
    from broker.settings import BrokerDirectory

    if given is not None:
        return BrokerDirectory(given)
    if from_environment := os.environ.get(DIRECTORY_VARIABLE):
        return BrokerDirectory(Path(from_environment))
    here = BrokerDirectory(Path())
    if here.settings.is_file():
        return here
    import platformdirs

    return BrokerDirectory(Path(platformdirs.user_data_dir("homespun", appauthor=False)) / "broker")


def operator_identity(given: Path | None) -> Path:
    """The directory with the operator's identity, whose certificate is renewed when it is due.

    Raises:
        HomespunError: BAD_CONFIGURATION when the directory is no broker's.
    """
    from broker.identity.authority import renew_operator
    from homespun.identity.certificates import utc_now

    place = broker_directory(given)
    place.load_settings()
    renew_operator(place.root, utc_now())
    return place.operator


@contextmanager
def operator_channel(given: Path | None) -> Iterator[grpc.Channel]:
    """A channel to the running broker, as its operator.

    Raises:
        HomespunError: BAD_CONFIGURATION when the directory is no broker's.
    """
    from homespun.identity import directory as identity_directory
    from homespun.identity.channels import open_channel

    credentials = identity_directory.load(operator_identity(given))
    with open_channel(credentials, credentials.broker_address) as channel:
        yield channel
