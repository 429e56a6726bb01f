"""`homespun.local`: a client whose network is private to this program, on this machine."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from homespun.cli.output import note
from homespun.client import DEFAULT_TIMEOUT_S, Client
from homespun.connection import open_connection
from homespun.errors import Code, HomespunError
from homespun.local_network import LocalNetwork
from homespun.paths import cache_directory
from homespun.submission import Notify
from homespun.units import format_duration

MAX_LOCAL_PEERS = 64
"""Each is several processes of a hundred megabytes and more."""
MEASURED_S = 86_400.0
"""How long a measurement of this machine serves: it may have been taken in a busy moment."""


def local(
    peers: int = 3, *, directory: Path | str | None = None, threads: int = 1,
    memory: str | None = None, executors: Sequence[str] = (), notify: Notify | None = None,
) -> LocalClient:
    """Start a private broker and peers on this machine: everything is real but the distance.

    Processes of their own, with identities of their own, talk over mutual TLS on loopback; nothing
    of `homespun join` is read or changed, and nothing else is asked or needed. They end with the
    client: use it in a `with` statement or call `close`; at the latest they end with this program,
    however that ends.

        with homespun.local(peers=3) as client:
            job = client.train(model, ...)
            job.watch()

    Starting takes some seconds, and as many again where the device was not measured lately.

    Args:
        peers: how many, 1 to 64. They share this machine: more are not faster.
        directory: where to keep identities, journal, blobs and logs, new or empty; it stays. None:
            a temporary one, which goes.
        threads: CPU threads of each peer, >= 1.
        memory: device memory that each peer lends, such as `2GiB`; None for the default.
        executors: of the first peers, in order, such as `jax`; the others use torch.
        notify: told in one sentence what is going on; None: standard error is.

    Raises:
        HomespunError: INVALID_ARGUMENT, CONFLICT for a directory that is not empty; TIMED_OUT when
            a process is not ready within 90 s, EXECUTOR_DIED when one has ended: both quote its
            log. Then nothing is left behind that runs.
    """
    if isinstance(peers, bool) or not isinstance(peers, int) or not 1 <= peers <= MAX_LOCAL_PEERS:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"peers must be a whole number from 1 to {MAX_LOCAL_PEERS}; it is {peers!r}.")
    say = notify or note
    place = Path(tempfile.mkdtemp(prefix="homespun-")) if directory is None else _empty(
        Path(directory))
    network = LocalNetwork(
        place, peers, threads=threads, memory=memory, executors=executors,
        hardware=_measured(threads, executors), is_temporary=directory is None)
    say(f"Starting a private broker and {peers} peer{'s' * (peers > 1)} on this machine.")
    began_s = time.monotonic()
    network.start()
    _keep(network.hardware, _measured(threads, executors))
    client = LocalClient(network, peers, say)
    say(f"Ready after {format_duration(time.monotonic() - began_s)}.")
    return client


class LocalClient(Client):
    """A client with a network of its own, which ends with it.

    Attributes:
        network: its processes, by name `broker`, `peer-0`, `peer-1`, ...: to look into their logs,
            to kill and start them.
    """

    def __init__(self, network: LocalNetwork, peers: int, notify: Notify) -> None:
        """Use a network that has started.

        Args:
            network: the running network.
            peers: how many it started with.
            notify: as of `local`.
        """
        connection = open_connection(
            network.address, network.credentials, DEFAULT_TIMEOUT_S, is_private=True)
        super().__init__(connection, notify)
        self.network = network
        self._peers = peers
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"LocalClient({self._peers} peers, {self._connection.address!r})"

    def close(self) -> None:
        """End all processes, and with them all jobs. Calling it again does nothing."""
        atexit.unregister(self.close)
        super().close()
        self.network.close()


def _empty(directory: Path) -> Path:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise HomespunError(
            Code.CONFLICT, f"{directory} is not an empty directory: give a new or empty one.",
            directory=directory)
    return directory


def _measured(threads: int, executors: Sequence[str]) -> Path:
    """Where the first peer's measurements are kept for the next network."""
    name = f"hardware-{executors[0] if executors else 'torch'}-{threads}.json"
    path = cache_directory() / "local" / name
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > MEASURED_S:
            path.unlink()
    return path


def _keep(measured: Path, kept: Path) -> None:
    """Copy new measurements; a directory that cannot be written costs only that."""
    with contextlib.suppress(OSError):
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_name(f"{kept.name}.{os.getpid()}")
            shutil.copyfile(measured, partial)
            os.replace(partial, kept)
