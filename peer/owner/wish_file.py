"""What a peer's owner wants, in one small file of the peer's directory.

The file is the whole channel from the commands to the daemon, which looks at it a few times a
second; the answer is the daemon's status note. A file works the same on every system, needs no
port and no secret (who may write into the directory owns the peer), and is what keeps a paused peer
paused when the daemon or the machine starts anew.
"""

from __future__ import annotations

import contextlib

import msgspec

from homespun.errors import Code, HomespunError
from homespun.identity.private_file import read_bounded, write_atomically
from peer.owner.core.wish import NO_WISH, Wish
from peer.settings import PeerDirectory

WISH_BYTES_MAX = 4_096


def read_wish(directory: PeerDirectory) -> Wish:
    """What the owner wants; `NO_WISH` if nothing was said.

    Raises:
        HomespunError: BAD_CONFIGURATION when the file is no wish.
    """
    path = directory.wish
    if not path.exists():
        return NO_WISH
    try:
        return msgspec.json.decode(read_bounded(path, WISH_BYTES_MAX), type=Wish)
    except msgspec.DecodeError as error:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{path} does not say what the owner wants: {error}. Say it again, with `peer pause` "
            "or `peer resume`.",
            path=path,
        ) from error


def write_wish(directory: PeerDirectory, wish: Wish) -> None:
    """Replace what the owner wants, in one step.

    Raises:
        HomespunError: BAD_CONFIGURATION when it cannot be written.
    """
    write_atomically(directory.wish, msgspec.json.encode(wish))


def forget_wish(directory: PeerDirectory) -> None:
    """The wish has come true, and is not for the next start."""
    with contextlib.suppress(OSError):
        directory.wish.unlink(missing_ok=True)
