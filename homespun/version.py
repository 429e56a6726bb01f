"""Which protocol this build speaks, and whether it understands another build.

The protocol version is one integer. A build speaks `MIN_PROTOCOL_VERSION` to `PROTOCOL_VERSION`;
the side that is called must be at least as new as its caller, so the broker is updated first and
then the peers and clients in any order.
"""

from __future__ import annotations

from importlib import metadata

from homespun.errors import Code, HomespunError

PROTOCOL_VERSION = 1
"""The newest protocol that this build speaks."""
MIN_PROTOCOL_VERSION = 1
"""The oldest protocol that this build still speaks."""


def _software_version() -> str:
    try:
        return metadata.version("homespun")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a source tree that was never installed


SOFTWARE_VERSION = _software_version()
"""Version of the installed package; for people, never compared."""


def check_version(theirs: int, whose: str) -> int:
    """Check that this build can speak with another, and say with which version.

    Args:
        theirs: the protocol version that the other side announced; 0 when it announced none.
        whose: the other side in words for the message (`broker`, `peer peer_7f3a`).

    Returns:
        The version that both sides speak from here on.

    Raises:
        HomespunError: INCOMPATIBLE_VERSION; names the older side, which is the one to update.
    """
    if MIN_PROTOCOL_VERSION <= theirs <= PROTOCOL_VERSION:
        return theirs
    older = f"the {whose}" if theirs < MIN_PROTOCOL_VERSION else "this side"
    raise HomespunError(
        Code.INCOMPATIBLE_VERSION,
        f"The {whose} speaks protocol version {theirs}; this side (Homespun {SOFTWARE_VERSION}) "
        f"speaks {MIN_PROTOCOL_VERSION} to {PROTOCOL_VERSION}. The older one is {older}: "
        "update it.",
        theirs=theirs, oldest=MIN_PROTOCOL_VERSION, newest=PROTOCOL_VERSION, older=older)
