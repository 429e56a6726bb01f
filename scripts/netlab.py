"""Peers far apart on one Linux machine: rates, delay, jitter and loss between network namespaces.

Each peer is a network namespace with one TAP interface, and this process is the switch between
them, so nothing of the kernel's traffic control (netem) is needed. A peer has an uplink and a
downlink rate, a one-way delay, jitter and loss; delays of the two ends add. Queues are drop-tail.
TCP hands 64 KB super-frames through (virtio-net header with GSO), so the switch copies few packets
even at 1 Gbit/s. Needs root, /dev/net/tun and iproute2; otherwise only the standard library.

    python scripts/netlab.py --peer up=100,down=100,delay=10 --peer up=20,down=100,loss=0.001 -- CMD

runs the shell line CMD outside the namespaces, with NETLAB0, NETLAB1, ... naming them: in CMD,
`ip netns exec $NETLAB0 ...` runs something as peer 0. Peer i has the address 10.77.0.<i + 1>. Rates
are in Mbit/s (0 is unlimited), delays in ms, loss is a share. As a module:

    with NetworkLab([AccessLink(up_mbit=100), AccessLink()]) as lab:
        lab.popen(0, ["iperf3", "-s"])
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

TUN = Path("/dev/net/tun")
CONGESTION = "reno"
"""Congestion control in all namespaces, so that both sides of a comparison use the same."""
CONGESTION_FILE = "/proc/sys/net/ipv4/tcp_congestion_control"
MTU_BYTES = 1500
QUEUE_S = 0.2
"""A frame that would wait longer than this for a line is dropped."""
PEERS_MAX = 200
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000
_OFFLOAD_CHECKSUM, _OFFLOAD_TSO4 = 0x1, 0x2
_VNET_HEADER_BYTES = 10
_FRAME_BYTES_MAX = 70_000
_FRAMES_PER_TURN = 16
_IDLE_S = 0.2
_JOIN_S = 2.0


class LabError(Exception):
    """This machine cannot play a network; says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLink:
    """How a peer reaches the others.

    Attributes:
        up_mbit: uplink in Mbit/s; 0 is unlimited.
        down_mbit: downlink in Mbit/s; 0 is unlimited.
        delay_ms: one way, >= 0; added to the other end's.
        jitter_ms: longest random delay on top, >= 0; frames may overtake each other.
        loss: share of frames that vanish, in [0, 1).
    """

    up_mbit: float = 0.0
    down_mbit: float = 0.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        numbers = dataclasses.astuple(self)
        if min(numbers) < 0 or not self.loss < 1:
            raise LabError(f"A link has rates and delays >= 0 and a loss below 1, not {self}.")


@dataclass(slots=True)
class Counts:
    """What passed the switch: frames may be super-frames of up to 64 KB."""

    frames: int = 0
    payload_bytes: int = 0
    lost: int = 0
    overflowed: int = 0
    cpu_s: float = 0.0


def missing() -> str:
    """What this machine lacks to play a network; "" if it can."""
    if sys.platform != "linux":
        return "netlab needs Linux: network namespaces and TAP interfaces"
    if os.geteuid() != 0:
        return "netlab needs root, to make network namespaces"
    if not TUN.exists():
        return f"netlab needs {TUN} (load the module `tun`)"
    if shutil.which("ip") is None:
        return "netlab needs the program `ip` (package iproute2)"
    return ""


class NetworkLab:
    """Namespaces and the switch between them, as a context manager.

    Attributes:
        congestion: TCP congestion control that the namespaces use; not `CONGESTION` where the
            machine does not let us choose.
        counts: what passed so far.
    """

    def __init__(
        self, links: Sequence[AccessLink], *, pair_delay_ms: Mapping[tuple[int, int], float] = {},
        queue_s: float = QUEUE_S, prefix: str = "", seed: int = 0,
    ) -> None:
        """Describe the network; entering makes it.

        Args:
            links: one per peer, at most `PEERS_MAX`.
            pair_delay_ms: delay on top, by (from, to).
            queue_s: longest wait for a line before a frame is dropped.
            prefix: of the namespaces' names; "" for one of this process's own.
            seed: of loss and jitter.

        Raises:
            LabError: no peers, too many, or the machine lacks something.
        """
        if not 0 < len(links) <= PEERS_MAX:
            raise LabError(f"A lab has 1 to {PEERS_MAX} peers, not {len(links)}.")
        if lack := missing():
            raise LabError(lack)
        self.prefix = prefix or f"lab{os.getpid()}-"
        self.congestion = ""
        self.counts = Counts()
        self._links = tuple(links)
        self._taps: list[int] = []
        self._switch = _Switch(self._links, dict(pair_delay_ms), queue_s, Random(seed), self.counts)

    @property
    def size(self) -> int:
        """Number of peers."""
        return len(self._links)

    def namespace(self, number: int) -> str:
        """Name of a peer's network namespace."""
        return f"{self.prefix}{number}"

    def address(self, number: int) -> str:
        """IPv4 address of a peer."""
        return f"10.77.0.{number + 1}"

    def command(self, number: int, command: Sequence[str]) -> list[str]:
        """The command line that runs a command as a peer."""
        return ["ip", "netns", "exec", self.namespace(number), *command]

    def popen(self, number: int, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command as a peer."""
        return subprocess.Popen(self.command(number, command), **options)

    def __enter__(self) -> NetworkLab:
        """Make the namespaces and start the switch."""
        try:
            for number in range(len(self._links)):
                self._make_peer(number)
            for number in range(len(self._links)):
                self._introduce(number)
            self.congestion = self._choose_congestion()
            self._switch.start(self._taps)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the switch and delete the namespaces."""
        self._close()

    def _close(self) -> None:
        self._switch.stop()
        for tap in self._taps:
            os.close(tap)
        self._taps.clear()
        for number in range(len(self._links)):
            subprocess.run(["ip", "netns", "del", self.namespace(number)], check=False,
                           stderr=subprocess.DEVNULL)

    def _make_peer(self, number: int) -> None:
        namespace, device = self.namespace(number), f"t{os.getpid() % 100_000}x{number}"
        _ip("netns", "add", namespace)
        self._taps.append(_open_tap(device))
        _ip("link", "set", device, "netns", namespace)
        for order in (
            ("link", "set", device, "address", _hardware_address(number)),
            ("link", "set", device, "name", "eth0"),
            ("link", "set", "eth0", "mtu", str(MTU_BYTES), "txqueuelen", "1000"),
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{self.address(number)}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            _ip("-n", namespace, *order)

    def _introduce(self, number: int) -> None:
        """Fixed neighbours: there is no address resolution that could be lost."""
        for other in range(len(self._links)):
            if other != number:
                _ip("-n", self.namespace(number), "neigh", "replace", self.address(other),
                    "lladdr", _hardware_address(other), "dev", "eth0")

    def _choose_congestion(self) -> str:
        chosen = set()
        for number in range(len(self._links)):
            line = f"echo {CONGESTION} > {CONGESTION_FILE}; cat {CONGESTION_FILE}"
            done = subprocess.run(
                self.command(number, ["sh", "-c", line]), check=False, capture_output=True,
                text=True)
            chosen.add(done.stdout.strip() or "unknown")
        return ", ".join(sorted(chosen))


@dataclass(frozen=True, slots=True, order=True)
class _Delivery:
    """A frame that is due somewhere at a time; `number` keeps equal times in order."""

    at_s: float
    number: int
    target: int = dataclasses.field(compare=False)
    frame: bytes = dataclasses.field(compare=False)
    is_at_home: bool = dataclasses.field(compare=False)
    """Past the downlink's queue: the next thing is to hand it over."""


class _Switch:
    """The thread that carries frames from TAP to TAP."""

    def __init__(
        self, links: Sequence[AccessLink], pair_delay_ms: Mapping[tuple[int, int], float],
        queue_s: float, random: Random, counts: Counts,
    ) -> None:
        self._links, self._pair_delay_ms, self._queue_s = links, pair_delay_ms, queue_s
        self._random, self._counts = random, counts
        self._up_s_per_byte = [_seconds_per_byte(link.up_mbit) for link in links]
        self._down_s_per_byte = [_seconds_per_byte(link.down_mbit) for link in links]
        self._up_free_s = [0.0] * len(links)
        self._down_free_s = [0.0] * len(links)
        self._due: list[_Delivery] = []
        self._number = 0
        self._taps: Sequence[int] = ()
        self._peers: dict[int, int] = {}
        self._is_ended = False
        self._thread = threading.Thread(target=self._run, name="netlab switch", daemon=True)

    def start(self, taps: Sequence[int]) -> None:
        """Carry frames between these TAPs until `stop`."""
        self._taps = tuple(taps)
        self._peers = {tap: number for number, tap in enumerate(taps)}
        self._thread.start()

    def stop(self) -> None:
        """End the thread; may be called before `start`."""
        self._is_ended = True
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._is_ended:
            self._deliver(time.monotonic())
            wait_s = self._due[0].at_s - time.monotonic() if self._due else _IDLE_S
            ready, _, _ = select.select(self._taps, (), (), max(0.0, wait_s))
            for tap in ready:
                self._read(tap)
            self._counts.cpu_s = time.thread_time()

    def _deliver(self, now_s: float) -> None:
        while self._due and self._due[0].at_s <= now_s:
            due = heapq.heappop(self._due)
            if due.is_at_home or not self._wait_for_downlink(due, now_s):
                self._hand_over(due)

    def _wait_for_downlink(self, due: _Delivery, now_s: float) -> bool:
        """Queue a frame at its receiver's line; False if it has passed it already."""
        begin_s = max(due.at_s, self._down_free_s[due.target])
        if begin_s - due.at_s > self._queue_s:
            self._counts.overflowed += 1
            return True
        end_s = begin_s + len(due.frame) * self._down_s_per_byte[due.target]
        self._down_free_s[due.target] = end_s
        if end_s <= now_s:
            return False
        self._schedule(end_s, due.target, due.frame, is_at_home=True)
        return True

    def _hand_over(self, due: _Delivery) -> None:
        try:
            os.write(self._taps[due.target], due.frame)
        except OSError:  # the interface's own queue is full, or it is going away
            self._counts.overflowed += 1

    def _read(self, tap: int) -> None:
        source = self._peers[tap]
        for _ in range(_FRAMES_PER_TURN):
            try:
                frame = os.read(tap, _FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            self._take(source, frame, time.monotonic())

    def _take(self, source: int, frame: bytes, now_s: float) -> None:
        """A frame enters the uplink of its sender."""
        targets = self._targets(source, frame)
        if not targets:
            return
        self._counts.frames += 1
        self._counts.payload_bytes += len(frame)
        begin_s = max(now_s, self._up_free_s[source])
        if begin_s - now_s > self._queue_s:
            self._counts.overflowed += 1
            return
        self._up_free_s[source] = end_s = begin_s + len(frame) * self._up_s_per_byte[source]
        for target in targets:
            if self._is_lost(source) or self._is_lost(target):
                self._counts.lost += 1
            else:
                at_s = end_s + self._delay_s(source, target)
                self._schedule(at_s, target, frame, is_at_home=False)

    def _targets(self, source: int, frame: bytes) -> list[int]:
        address = frame[_VNET_HEADER_BYTES:_VNET_HEADER_BYTES + 6]
        if address[0] & 1:  # broadcast or multicast
            return [number for number in range(len(self._links)) if number != source]
        number = address[5] - 1
        is_ours = address[:5] == b"\2\0\0\0\0" and 0 <= number < len(self._links)
        return [number] if is_ours else []

    def _is_lost(self, peer: int) -> bool:
        loss = self._links[peer].loss
        return loss > 0 and self._random.random() < loss

    def _delay_s(self, source: int, target: int) -> float:
        ends = self._links[source], self._links[target]
        jitter_ms = sum(end.jitter_ms for end in ends)
        fixed_ms = sum(end.delay_ms for end in ends) + self._pair_delay_ms.get((source, target), 0)
        return (fixed_ms + (self._random.random() * jitter_ms if jitter_ms else 0.0)) / 1e3

    def _schedule(self, at_s: float, target: int, frame: bytes, *, is_at_home: bool) -> None:
        self._number += 1
        heapq.heappush(self._due, _Delivery(at_s, self._number, target, frame, is_at_home))


def _open_tap(device: str) -> int:
    import fcntl  # Unix only, as everything here

    tap = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", device.encode(), flags))
    fcntl.ioctl(tap, _TUNSETOFFLOAD, _OFFLOAD_CHECKSUM | _OFFLOAD_TSO4)
    return tap


def _hardware_address(number: int) -> str:
    return f"02:00:00:00:00:{number + 1:02x}"


def _seconds_per_byte(mbit: float) -> float:
    return 8e-6 / mbit if mbit else 0.0


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")


_FIELDS = {"up": "up_mbit", "down": "down_mbit", "delay": "delay_ms", "jitter": "jitter_ms",
           "loss": "loss"}


def access_link(text: str) -> AccessLink:
    """Read a link as `--peer` takes it: `up=20,down=100,delay=10`.

    Raises:
        LabError: a name or number that means nothing.
    """
    numbers: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            numbers[_FIELDS[name]] = float(value)
        except (KeyError, ValueError):
            raise LabError(
                f"{part!r} is no setting of a peer; expected NAME=NUMBER with a name of "
                f"{', '.join(_FIELDS)}.") from None
    return AccessLink(**numbers)


def main(arguments: Sequence[str]) -> int:
    """Run one shell line in a lab; its exit status, or 2 if there can be no lab."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", required=True, metavar="up=,down=,...",
                        help="one peer: up, down (Mbit/s), delay, jitter (ms), loss (share)")
    parser.add_argument("--queue-ms", type=float, default=QUEUE_S * 1e3)
    parser.add_argument("--seed", type=int, default=0, help="of loss and jitter")
    parser.add_argument("command", nargs="+", metavar="CMD")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the namespaces have to go, too
    try:
        lab = NetworkLab([access_link(text) for text in options.peer],
                         queue_s=options.queue_ms / 1e3, seed=options.seed)
        return _run_in(lab, " ".join(options.command))
    except LabError as error:
        print(f"netlab: {error}", file=sys.stderr)
        return 2


def _run_in(lab: NetworkLab, line: str) -> int:
    with lab:
        names = {f"NETLAB{i}": lab.namespace(i) for i in range(lab.size)}
        began_s = time.monotonic()
        status = subprocess.run(
            ["sh", "-c", line], check=False,
            env={**os.environ, "NETLAB_PREFIX": lab.prefix, **names}).returncode
        took_s = time.monotonic() - began_s
    print(f"netlab: {lab.counts}, congestion control {lab.congestion}, switch used "
          f"{lab.counts.cpu_s / took_s:.0%} of one core", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
