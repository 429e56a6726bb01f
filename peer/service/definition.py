"""What to run as a service, and where its definition lies on each system. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath, PureWindowsPath

NAME = "homespun-peer"
LABEL = "org.homespun.peer"
"""The name on macOS, where names are domains backwards."""
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
    """

    python: PurePath
    directory: PurePath
    is_system: bool
    user: str = ""
    grace_s: float = 25.0

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line, as words."""
        return (str(self.python), "-P", "-m", "peer", "run", "--dir", str(self.directory))

    @property
    def stop_s(self) -> int:
        """How long the manager waits before it kills."""
        return round(self.grace_s) + STOP_SLACK_S


def systemd_path(home: PurePath, config_home: str, is_system: bool) -> PurePath:
    """Where systemd looks for the unit."""
    if is_system:
        return PurePosixPath("/etc/systemd/system") / f"{NAME}.service"
    base = PurePosixPath(config_home) if config_home else home / ".config"
    return base / "systemd" / "user" / f"{NAME}.service"


def launchd_path(home: PurePath, is_system: bool) -> PurePath:
    """Where launchd looks for the property list."""
    base = PurePosixPath("/Library/LaunchDaemons") if is_system else home / "Library/LaunchAgents"
    return base / f"{LABEL}.plist"


def task_path(directory: PurePath) -> PurePath:
    """Windows keeps tasks itself; the definition that it is told lies in the peer's directory."""
    return PureWindowsPath(directory) / f"{NAME}.xml"
