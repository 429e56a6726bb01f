"""What to run as a service, and where its definition lies on each system. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePath, PurePosixPath, PureWindowsPath

NAME = "homespun-peer"
LABEL = "org.homespun.peer"
"""The name on macOS, where names are domains backwards."""
SYSTEM_DIRECTORY = PurePosixPath("/var/lib/homespun-peer")
"""Where the machine's own peer is at home; its service has the plain name."""
SLUG_LENGTH_MAX = 32
BAD_CONFIGURATION = 78
"""Exit code that starting again does not cure."""
STOP_SLACK_S = 20
"""On top of the grace: to end processes and to keep what was learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A peer as a service.

    Attributes:
        python: absolute path of the interpreter that has Homespun.
        directory: absolute path of the peer's directory.
        is_system: started with the machine, for all; else with its owner's session.
        user: account that it runs under; needed only for the system's service.
        grace_s: how long the peer hands over when it is told to stop.
        name: that the manager knows it by; as of `service_name`.
    """

    python: PurePath
    directory: PurePath
    is_system: bool
    user: str = ""
    grace_s: float = 25.0
    name: str = NAME

    @property
    def label(self) -> str:
        """Its name on macOS."""
        return LABEL + self.name.removeprefix(NAME).replace("-", ".", 1)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line, as words."""
        return (str(self.python), "-P", "-m", "peer", "run", "--dir", str(self.directory))

    @property
    def stop_s(self) -> int:
        """How long the manager waits before it kills."""
        return round(self.grace_s) + STOP_SLACK_S


def service_name(directory: PurePath, default: PurePath) -> str:
    """What the service of a directory is called, so that each peer of a machine has its own.

    Args:
        directory: absolute path of the peer's directory.
        default: the one whose service has the plain name.

    Returns:
        `homespun-peer`; of other directories with their own name behind it, and the start of their
        path's digest, as two may be called alike: `homespun-peer-gpu1-3fa2c1`.
    """
    if directory == default:
        return NAME
    slug = re.sub(r"[^a-z0-9]+", "-", directory.name.lower()).strip("-")[:SLUG_LENGTH_MAX]
    digest = blake2b(str(directory).encode(), digest_size=3).hexdigest()
    return "-".join(word for word in (NAME, slug, digest) if word)


def systemd_path(
    home: PurePath, config_home: str, is_system: bool, name: str = NAME
) -> PurePath:
    """Where systemd looks for the unit."""
    if is_system:
        return PurePosixPath("/etc/systemd/system") / f"{name}.service"
    base = PurePosixPath(config_home) if config_home else home / ".config"
    return base / "systemd" / "user" / f"{name}.service"


def launchd_path(home: PurePath, is_system: bool, label: str = LABEL) -> PurePath:
    """Where launchd looks for the property list."""
    base = PurePosixPath("/Library/LaunchDaemons") if is_system else home / "Library/LaunchAgents"
    return base / f"{label}.plist"


def task_path(directory: PurePath) -> PurePath:
    """Windows keeps tasks itself; the definition that it is told lies in the peer's directory."""
    return PureWindowsPath(directory) / f"{NAME}.xml"
