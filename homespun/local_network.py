"""A whole private network on this machine: a broker and peers as real processes over real mTLS.

For the demo, tutorials, tests and benchmarks. Nothing is simulated and nothing is switched off:
each process has an identity of its own, made with a join key. Only loopback is used, unless sites
are given.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from homespun.errors import Code, HomespunError
from homespun.identity.address import join_address
from homespun.local_keeper import OWN_GROUP, STOP_TIMEOUT_S, Keeper

if TYPE_CHECKING:
    import psutil

    from homespun.client import Client

HOST = "127.0.0.1"
START_TIMEOUT_S = 90.0
COMMAND_TIMEOUT_S = 120.0
POLL_S = 0.1
LENT_ALWAYS = tuple(
    word for setting in ("on-battery=yes", "on-metered=yes", "free-disk=off", "priority=normal")
    for word in ("--set", setting))
"""Who starts peers of one's own means them to run, on a laptop too."""

_STOP: int = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where one process runs, such as a network namespace.

    Attributes:
        address: the IP address that it listens on and that others reach it at.
        command: what it is started through: `("ip", "netns", "exec", "attic")`.
    """

    address: str = HOST
    command: tuple[str, ...] = ()


HERE = Site()


class LocalNetwork:
    """A broker and some peers in a directory of their own. Use it as a context manager.

    Processes are called `broker`, `peer-0`, `peer-1`, ... Example:

        with LocalNetwork(Path("play"), peers=3) as network, network.client() as client:
            job = client.train(...)
            network.kill("broker")
            network.start_broker()
            job.wait()

    Args:
        directory: where everything is kept: identities, journal, blobs, logs.
        peers: how many peers to start.
        threads: CPU threads of each peer.
        memory: device memory that each peer lends, such as `2GiB`; None for the default.
        settings: what to change in the broker's `broker.json`; a dict inside is merged with the
            one there: `{"policy": {"reconnect_grace_ms": 2_000}}`.
        environment: variables that every process gets on top of this process's own.
        executors: of the first peers, in order; the others use the default one.
        sites: where processes run, by name; without one they use loopback here. The broker's has to
            be reachable from this process.
        hardware: what a peer has measured on this machine before, its `hardware.json`; without it
            the first peer measures for all.
        front: puts something in front of a process, such as a proxy: takes its name and address,
            returns the address that peers dial instead.
        is_temporary: the directory goes at the end, also when this program is killed.
    """

    def __init__(
        self, directory: Path, peers: int, *, threads: int = 1, memory: str | None = None,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None, executors: Sequence[str] = (),
        sites: Mapping[str, Site] | None = None, hardware: Path | None = None,
        front: Callable[[str, str], str] | None = None, is_temporary: bool = False,
    ) -> None:
        self.directory = directory
        self._hardware = hardware or self.hardware
        self._executors = tuple(executors)
        self._sites = dict(sites or {})
        self._wanted = peers
        self._threads = threads
        self._memory = memory
        self._settings = dict(settings or {})
        self._environment_given = dict(environment or {})
        self._port = 0
        self._front = front
        self._is_temporary = is_temporary
        self._dialled = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[BinaryIO] = []
        self._keeper: Keeper | None = None

    def __enter__(self) -> LocalNetwork:
        """As `start`."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process."""
        self.close()

    def start(self) -> None:
        """Start everything and wait until the peers are live; if that fails, end everything.

        Raises:
            HomespunError: TIMED_OUT when something is not ready in its time, EXECUTOR_DIED when a
                process has ended; both quote its log. INTERNAL when a command has failed.
        """
        try:
            self._make()
            self.start_broker()
            self._join_all()
            for number in range(self._wanted):
                self.start_peer(number)
                if number == 0 and self._known_hardware() is None:
                    self.wait_for_peers(1)  # its measurements spare the others theirs
            self.wait_for_peers(self._wanted)
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """`host:port` of the broker."""
        return f"{self._site('broker').address}:{self._port}"

    @property
    def broker_directory(self) -> Path:
        """The broker's directory, for `broker ... --dir`."""
        return self.directory / "broker"

    @property
    def credentials(self) -> Path:
        """A submitter's identity."""
        return self.directory / "client"

    @property
    def hardware(self) -> Path:
        """What the first peer has measured; not there before it has."""
        return self.peer_directory(0) / "hardware.json"

    def peer_directory(self, number: int) -> Path:
        """A peer's directory, for `peer ... --dir`."""
        return self.directory / f"peer-{number}"

    def client(self, credentials: Path | None = None) -> Client:
        """A client of this network, as its submitter or with another identity."""
        from homespun import connect

        return connect(self.address, credentials=credentials or self.credentials)

    # --- processes -----------------------------------------------------------------------------

    def start_broker(self, *, environment: Mapping[str, str] | None = None) -> None:
        """Start the broker, for the first time or again, and wait until it answers."""
        self._start("broker", ("broker", "serve", str(self.broker_directory)), environment)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self._site("broker").address, self._port):
            self._check_alive("broker", deadline)

    def start_peer(
        self, number: int, *flags: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a peer that has joined, for the first time or again; `flags` go to `peer run`.

        It is live some seconds later: `wait_for_peers`.
        """
        home = self.peer_directory(number)
        measured = self._known_hardware()
        if measured is not None and not (home / "hardware.json").is_file():
            # The same machine: peers must not measure each other.
            shutil.copy(measured, home / "hardware.json")
        self._start(f"peer-{number}", ("peer", "run", *flags, "--dir", str(home)), environment)

    def is_running(self, name: str) -> bool:
        """Whether a process was started and has not ended."""
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def name_of_port(self, port: int) -> str:
        """The process that has a TCP connection from or a listener at a local port; "" for none."""
        import psutil

        for name, process in list(self._processes.items()):
            with contextlib.suppress(psutil.Error):
                if any(each.laddr.port == port
                       for each in psutil.Process(process.pid).net_connections("tcp")):
                    return name
        return ""

    def kill(self, name: str) -> None:
        """End a process at once, as a crash would."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(STOP_TIMEOUT_S)

    def stop(self, name: str) -> int:
        """Ask a process to end, as Ctrl-C would; returns its exit status."""
        process = self._processes.pop(name)
        process.send_signal(_STOP)
        return process.wait(STOP_TIMEOUT_S)

    def send_signal(self, name: str, number: int) -> None:
        """Send a signal to a process, and nothing to its children."""
        self._processes[name].send_signal(number)

    def wait_for_end(self, name: str, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until a process has ended by itself; returns its exit status."""
        return self._processes.pop(name).wait(timeout_s)

    def pause(self, name: str) -> None:
        """Freeze a process and its children: alive but silent, as on a machine that sleeps."""
        for process in self._family(name):
            process.suspend()

    def resume(self, name: str) -> None:
        """Let a paused process go on."""
        for process in self._family(name):
            process.resume()

    def executors(self, number: int) -> list[psutil.Process]:
        """The processes that compute for a peer at the moment."""
        return self._family(f"peer-{number}")[1:]

    # --- commands ------------------------------------------------------------------------------

    def run(
        self, *command: str, secret: str = "", environment: Mapping[str, str] | None = None,
        at: Site = HERE,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, such as `run("homespun", "jobs")`, as this network's submitter.

        Args:
            command: the program (`homespun`, `broker` or `peer`) and its arguments; `broker` ones
                need `--dir`.
            secret: what it reads from standard input.
            environment: variables on top of the network's own.
            at: where to run it.
        """
        return subprocess.run(
            [*at.command, *_python(command)], input=secret, capture_output=True, text=True,
            encoding="utf-8", timeout=COMMAND_TIMEOUT_S, check=False,
            env=self._environment(environment),
        )

    def join_key(self, role: str, *, reusable: bool = False, expires: str = "1h") -> str:
        """Make a join key for `peer` or `submitter`."""
        more = ("--reusable",) if reusable else ()
        answer = self._checked(
            "broker", "keys", "create", "--role", role, *more, "--expires", expires, "--json",
            "--dir", str(self.broker_directory),
        )
        return str(json.loads(answer)["key"])

    def join_peer(self, number: int, *flags: str) -> None:
        """Make a peer; `start_peer` starts it. `flags` go to `peer join`."""
        self._checked(*self._join_command(number, *flags), secret=self.join_key("peer"),
                      at=self._site(f"peer-{number}"))

    def join_submitter(self, credentials: Path) -> None:
        """Make a submitter's identity in a directory."""
        self._checked(
            "homespun", "join", self.address, "--key", "-", "--credentials", str(credentials),
            secret=self.join_key("submitter"),
        )

    def peers(self) -> list[dict[str, Any]]:
        """What the operator sees of the peers."""
        answer = self._checked("broker", "peers", "--json", "--dir", str(self.broker_directory))
        peers: list[dict[str, Any]] = json.loads(answer)["peers"]
        return peers

    def wait_for_peers(self, count: int) -> None:
        """Wait until so many peers are live.

        Raises:
            HomespunError: TIMED_OUT, or EXECUTOR_DIED when a process has ended; quotes its log.
        """
        with self.client() as client:
            self.wait_until(
                lambda: len(client.fleet().peers) >= count, f"{count} peers are live")

    def wait_until(
        self, is_so: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """Ask again and again until something is so, while every process lives.

        Raises:
            HomespunError: TIMED_OUT, or EXECUTOR_DIED when a process has ended; quotes its log.
        """
        deadline = time.monotonic() + timeout_s
        while not is_so():
            for name in list(self._processes):
                self._check_alive(name, deadline, what)

    def log(self, name: str) -> str:
        """What a process has said so far, over all its starts."""
        return (self.directory / f"{name}.log").read_text("utf-8", "replace")

    def close(self) -> None:
        """End every process, the broker last; what has not ended in time is killed.

        Calling it again does nothing.
        """
        deadline = time.monotonic() + STOP_TIMEOUT_S
        try:
            for name in sorted(self._processes, reverse=True):
                self._processes[name].send_signal(_STOP)
            for process in self._processes.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:  # also when somebody is impatient and presses Ctrl-C
            for process in self._processes.values():
                process.kill()
                process.wait(STOP_TIMEOUT_S)
            self._processes.clear()
            for log in self._logs:
                log.close()
            self._logs.clear()
            if self._keeper is not None:
                self._keeper.close()
                self._keeper = None
            if self._is_temporary:
                shutil.rmtree(self.directory, ignore_errors=True)

    # --- parts ---------------------------------------------------------------------------------

    def _make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._port, enrolment_port = _free_ports(self._site("broker").address, 2)
        self._checked(
            "broker", "init", str(self.broker_directory), "--listen", self.address,
            "--enrolment-port", str(enrolment_port), "--no-announce",
        )
        self._dialled = self._front("broker", self.address) if self._front else self.address
        if self._settings:
            path = self.broker_directory / "broker.json"
            merged = _merged(json.loads(path.read_text("utf-8")), self._settings)
            path.write_text(json.dumps(merged, indent=2), "utf-8")

    def _fronted(self, name: str) -> tuple[str, ...]:
        """Flags of a peer that something stands in front of."""
        if self._front is None:
            return ()
        host = self._site(name).address
        port, = _free_ports(host, 1)
        return ("--listen", str(port),
                "--advertise", self._front(name, join_address(host, port)))

    def _join_all(self) -> None:
        """Make everybody, as many at a time as there are processors: each is a process to start."""
        key = self.join_key("peer", reusable=True)
        commands = [
            self._join_command(number, *(
                f"--executor={name}" for name in self._executors[number:number + 1]))
            for number in range(self._wanted)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            joins: list[Future[Any]] = [
                pool.submit(self._checked, *command, secret=key, at=self._site(f"peer-{number}"))
                for number, command in enumerate(commands)]
            joins.append(pool.submit(self.join_submitter, self.credentials))
            for join in joins:
                join.result()

    def _join_command(self, number: int, *flags: str) -> tuple[str, ...]:
        memory = ("--memory", self._memory) if self._memory else ()
        return (
            "peer", "join", self._dialled, "--key", "-", "--name", f"peer-{number}",
            "--device", "cpu", "--threads", str(self._threads),
            "--host", self._site(f"peer-{number}").address,
            *self._fronted(f"peer-{number}"), *memory, *LENT_ALWAYS, *flags,
            "--dir", str(self.peer_directory(number)))

    def _known_hardware(self) -> Path | None:
        """What is known of this machine without measuring it, if anything."""
        return next((path for path in (self.hardware, self._hardware) if path.is_file()), None)

    def _checked(self, *command: str, secret: str = "", at: Site = HERE) -> str:
        """Run a command that must succeed and return what it printed."""
        try:
            done = self.run(*command, secret=secret, at=at)
        except subprocess.TimeoutExpired as error:
            raise HomespunError(
                Code.TIMED_OUT,
                f"`{' '.join(command)}` has not ended after {COMMAND_TIMEOUT_S:.0f} s.") from error
        if done.returncode != 0:
            raise HomespunError(
                Code.INTERNAL, f"`{' '.join(command)}` ended with {done.returncode}: "
                f"{done.stderr.strip()}",
            )
        return done.stdout

    def _start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None
    ) -> None:
        log = (self.directory / f"{name}.log").open("ab")
        self._logs.append(log)
        self._processes[name] = subprocess.Popen(
            [*self._site(name).command, *_python(command)], stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, env=self._environment(environment),
            # Ctrl-C in a terminal is for the program there: a job outlives who watches it.
            process_group=0, creationflags=OWN_GROUP,
        )
        self._keeper = self._keeper or Keeper(self.directory if self._is_temporary else None)
        self._keeper.watch(self._processes[name].pid)

    def _site(self, name: str) -> Site:
        return self._sites.get(name, HERE)

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """One thread per pool in the daemons too: two pools on one core slow each other down."""
        own = {
            "OMP_NUM_THREADS": str(self._threads), "PYTHONUTF8": "1",
            "HOMESPUN_CREDENTIALS": str(self.credentials),
        }
        return {**os.environ, **own, **self._environment_given, **(more or {})}

    def _family(self, name: str) -> list[psutil.Process]:
        import psutil

        parent = psutil.Process(self._processes[name].pid)
        return [parent, *parent.children(recursive=True)]

    def _check_alive(self, name: str, deadline: float, what: str = "") -> None:
        """Wait a moment for a process that is starting; it must live, and the time not be over."""
        process = self._processes[name]
        try:
            status = process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                return
            missing = f"not so in time: {what}" if what else f"{name} was not ready in time"
            raise HomespunError(
                Code.TIMED_OUT, f"{missing}. The log of {name} ends: {self._tail(name)}"
            ) from None
        raise HomespunError(
            Code.EXECUTOR_DIED, f"{name} ended with {status}. Its log ends: {self._tail(name)}"
        )

    def _tail(self, name: str) -> str:
        return self.log(name)[-2_000:]


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`; a dict inside both is merged, not replaced."""
    merged = dict(base)
    for name, value in changes.items():
        inner = merged.get(name)
        if isinstance(inner, dict) and isinstance(value, Mapping):
            value = _merged(inner, value)
        merged[name] = value
    return merged


def _python(command: Sequence[str]) -> list[str]:
    # -P: a file in the user's folder must not hide our packages.
    return [sys.executable, "-P", "-m", *command]


def _answers(host: str, port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(POLL_S)
        return probe.connect_ex((host, port)) == 0


def _free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody uses at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((host, 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
