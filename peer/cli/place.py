"""Which peer a command is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from peer.settings import PeerDirectory

F = TypeVar("F", bound=Callable[..., Any])


def directory_option(command: F) -> F:
    """Add `--dir`."""
    return click.option(
        "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="The peer's directory. [env: HOMESPUN_PEER_DIR; default: the user's data directory]",
    )(command)


def peer_directory(given: Path | None) -> PeerDirectory:
    """The directory that a command means."""
    from peer.settings import PeerDirectory

    return PeerDirectory(given) if given is not None else PeerDirectory.default()
