"""A whole private network on this machine: a broker and peers as real processes over real mTLS.

For the demo, tutorials, tests and benchmarks. Nothing is simulated and nothing is switched off:
each process has an identity of its own, made with a join key. Only loopback is used.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from homespun.errors import Code, HomespunError

if TYPE_CHECKING:
    from homespun.client import Client

HOST = "127.0.0.1"
START_TIMEOUT_S = 90.0
COMMAND_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.1


class LocalNetwork:
    """A broker and some peers in a directory of their own. Use it as a context manager.

    Args:
        directory: where everything is kept: identities, journal, blobs, logs.
        peers: how many peers to start.
        threads: CPU threads of each peer.
        memory: device memory that each peer lends, such as `2GiB`; None for the default.
    """

    def __init__(
        self, directory: Path, peers: int, *, threads: int = 1, memory: str | None = None
    ) -> None:
        self.directory = directory
        self._wanted = peers
        self._threads = threads
        self._memory = memory
        self._port = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[BinaryIO] = []

    def __enter__(self) -> LocalNetwork:
        """Start everything and wait until the peers are live."""
        try:
            self._make()
            self.start_broker()
            self._join_all()
            for number in range(self._wanted):
                self.start_peer(number)
            self.wait_for_peers(self._wanted)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process."""
        self.close()

    @property
    def address(self) -> str:
        """`host:port` of the broker."""
        return f"{HOST}:{self._port}"

    @property
    def credentials(self) -> Path:
        """A submitter's identity."""
        return self.directory / "client"

    def client(self) -> Client:
        """A client of this network."""
        from homespun import connect

        return connect(self.address, credentials=self.credentials)

    def start_broker(self) -> None:
        """Start the broker, for the first time or again, and wait until it answers."""
        self._start("broker", "broker", "serve", str(self.directory / "broker"))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self._port):
            self._check_alive("broker", deadline)

    def start_peer(self, number: int) -> None:
        """Start one peer, for the first time or again."""
        self._start(f"peer-{number}", "peer", "run", "--dir", str(self._peer_directory(number)))

    def kill(self, name: str) -> None:
        """End a process at once (`broker`, `peer-0`, ...), as a crash would."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(STOP_TIMEOUT_S)

    def peers(self) -> list[dict[str, object]]:
        """What the operator sees of the peers."""
        answer = self._run("broker", "peers", "--json", "--dir", str(self.directory / "broker"))
        peers: list[dict[str, object]] = json.loads(answer)["peers"]
        return peers

    def wait_for_peers(self, count: int) -> None:
        """Wait until so many peers are live.

        Raises:
            HomespunError: TIMED_OUT, or EXECUTOR_DIED when a process has ended; quotes its log.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while sum(peer["state"] == "live" for peer in self.peers()) < count:
            for name in list(self._processes):
                self._check_alive(name, deadline)

    def log(self, name: str) -> str:
        """What a process has said so far."""
        return (self.directory / f"{name}.log").read_text("utf-8", "replace")

    def close(self) -> None:
        """End every process, the broker last."""
        for name in sorted(self._processes, reverse=True):
            self._processes[name].terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT_S)
        self._processes.clear()
        for log in self._logs:
            log.close()
        self._logs.clear()

    # --- parts ---------------------------------------------------------------------------------

    def _make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._port, enrolment_port = _free_ports(2)
        self._run(
            "broker", "init", str(self.directory / "broker"), "--listen", self.address,
            "--enrolment-port", str(enrolment_port), "--no-announce",
        )

    def _join_all(self) -> None:
        peer_key = self._key("peer", reusable=True)
        for number in range(self._wanted):
            memory = ("--memory", self._memory) if self._memory else ()
            self._run(
                "peer", "join", self.address, "--key", "-", "--name", f"peer-{number}",
                "--device", "cpu", "--threads", str(self._threads), "--host", HOST, *memory,
                "--dir", str(self._peer_directory(number)), secret=peer_key,
            )
        self._run(
            "homespun", "join", self.address, "--key", "-", "--credentials",
            str(self.credentials), secret=self._key("submitter", reusable=False),
        )

    def _key(self, role: str, *, reusable: bool) -> str:
        more = ("--reusable",) if reusable else ()
        answer = self._run(
            "broker", "keys", "create", "--role", role, *more, "--json", "--dir",
            str(self.directory / "broker"),
        )
        return str(json.loads(answer)["key"])

    def _peer_directory(self, number: int) -> Path:
        return self.directory / f"peer-{number}"

    def _run(self, *command: str, secret: str = "") -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            _python(command), input=secret, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT_S, check=False, env=self._environment(),
        )
        if done.returncode != 0:
            raise HomespunError(
                Code.INTERNAL, f"`{' '.join(command)}` ended with {done.returncode}: "
                f"{done.stderr.strip()}",
            )
        return done.stdout

    def _start(self, name: str, *command: str) -> None:
        log = (self.directory / f"{name}.log").open("ab")
        self._logs.append(log)
        self._processes[name] = subprocess.Popen(
            _python(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        """One thread per pool in the daemons too: two pools on one core slow each other down."""
        return {**os.environ, "OMP_NUM_THREADS": str(self._threads)}

    def _check_alive(self, name: str, deadline: float) -> None:
        """Wait a moment for a process that is starting; it must live, and the time not be over."""
        process = self._processes[name]
        try:
            status = process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                return
            raise HomespunError(
                Code.TIMED_OUT, f"{name} was not ready in time. Its log ends: {self._tail(name)}"
            ) from None
        raise HomespunError(
            Code.EXECUTOR_DIED, f"{name} ended with {status}. Its log ends: {self._tail(name)}"
        )

    def _tail(self, name: str) -> str:
        return self.log(name)[-2_000:]


def _python(command: Sequence[str]) -> list[str]:
    # -P: a file in the user's folder must not hide our packages.
    return [sys.executable, "-P", "-m", *command]


def _answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(POLL_S)
        return probe.connect_ex((HOST, port)) == 0


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((HOST, 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
