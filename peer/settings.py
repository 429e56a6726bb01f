"""What the owner of a peer decided: kept in the peer's directory, changed by `peer set`.

Precedence: flag of `peer run`, then this file, then the default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from homespun.errors import Code, HomespunError
from homespun.identity.private_file import read_bounded, write_atomically
from peer.owner.core.limits import OwnerLimits
from peer.priority import Priority

SETTINGS_BYTES_MAX = 64 * 1024
DIRECTORY_VARIABLE = "HOMESPUN_PEER_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """One peer's settings.

    Attributes:
        name: what people call this machine.
        device: `auto`, `cpu` or `cuda:N`.
        memory_bytes: device memory offered; 0 for the default (half of RAM, 90 % of a GPU).
        ram_bytes: of the machine's memory for all of this peer's processes; 0 for no limit.
        threads: CPU threads for computing; 0 for the default.
        priority: of the processes that compute among the machine's other programs.
        listen_host, listen_port: where other peers reach this one; port 0 takes a free one.
        advertise: host that is told to others, with a port where a router forwards another one; ""
            for the address that reaches the broker.
        executor: a name of `peer.executor.installed.NAMES`.
        cache_bytes: disk for blobs that no work needs at the moment, >= 0; what work needs is kept
            in any case.
        snapshot_bytes: disk for snapshots that other peers put here, >= 0.
        grace_s: how long a daemon that is told to stop may hand over what it holds, >= 0. The
            default fits into the 30 s and more that service managers wait; `docker stop` waits 10 s
            and wants `--time 30`.
        limits: what the owner wants to be considered.
    """

    name: str
    device: str = "auto"
    memory_bytes: int = 0
    ram_bytes: int = 0
    threads: int = 0
    priority: Priority = Priority.LOW
    listen_host: str = "0.0.0.0"
    listen_port: int = 0
    advertise: str = ""
    executor: str = "torch"
    cache_bytes: int = 20 * 2**30
    snapshot_bytes: int = 20 * 2**30
    grace_s: float = 25.0
    limits: OwnerLimits = field(default_factory=OwnerLimits)


@dataclass(frozen=True, slots=True)
class PeerDirectory:
    """Where a peer keeps things: identity, settings, blob cache, results on their way, status."""

    root: Path

    @classmethod
    def default(cls) -> PeerDirectory:
        """`$HOMESPUN_PEER_DIR`, or the platform's place for a user's data."""
        given = os.environ.get(DIRECTORY_VARIABLE)
        return cls(Path(given)) if given else cls.of_user()

    @classmethod
    def of_user(cls) -> PeerDirectory:
        """The platform's place for a user's data."""
        import platformdirs

        return cls(Path(platformdirs.user_data_dir("homespun")) / "peer")

    @property
    def identity(self) -> Path:
        """Certificate and key."""
        return self.root / "identity"

    @property
    def blobs(self) -> Path:
        """Cache of graphs, weights and columns."""
        return self.root / "blobs"

    @property
    def results(self) -> Path:
        """Trained parameters on their way to the broker."""
        return self.root / "results"

    @property
    def snapshots(self) -> Path:
        """Snapshots of segments, this peer's own and those it keeps for others."""
        return self.root / "snapshots"

    @property
    def hardware(self) -> Path:
        """Cached measurements."""
        return self.root / "hardware.json"

    @property
    def settings(self) -> Path:
        """What `peer join` and `peer set` were told."""
        return self.root / "settings.json"

    @property
    def status(self) -> Path:
        """What the running daemon last said of itself."""
        return self.root / "status.json"

    @property
    def ledger(self) -> Path:
        """What this peer has given."""
        return self.root / "ledger.db"

    @property
    def wish(self) -> Path:
        """What the owner wants of the daemon."""
        return self.root / "wish.json"

    def load_settings(self) -> PeerSettings:
        """Read the settings.

        Raises:
            HomespunError: BAD_CONFIGURATION if there are none, or they cannot be read.
        """
        path = self.settings
        if not path.exists():
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"{self.root} is not a peer's directory: run `peer join` first")
        try:
            settings = msgspec.json.decode(
                read_bounded(path, SETTINGS_BYTES_MAX), type=PeerSettings)
        except msgspec.DecodeError as error:
            raise HomespunError(
                Code.BAD_CONFIGURATION, f"{path} cannot be read: {error}", path=path) from error
        try:
            settings.limits.check()
        except HomespunError as error:
            raise HomespunError(
                Code.BAD_CONFIGURATION, f"{path} cannot be used: {error.message}", path=path,
            ) from error
        return settings

    def save_settings(self, settings: PeerSettings) -> None:
        """Write the settings in one step, as a daemon may be reading them."""
        self.root.mkdir(parents=True, exist_ok=True)
        encoded = msgspec.json.format(msgspec.json.encode(settings), indent=2)
        write_atomically(self.settings, encoded)
