"""A real network whose every connection runs through the chaos proxy, except the submitter's."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from homespun.local_network import LocalNetwork
from homespun.status import JobStatus, SegmentStatus
from tests.chaos.proxy import FINE, HELD, REFUSED, ChaosProxy, Condition

__all__ = ["FINE", "HELD", "REFUSED", "ChaosNetwork", "Condition"]

POLICY = {"lease_ttl_ms": 6_000, "reconnect_grace_ms": 2_000, "restart_grace_ms": 15_000}
"""A shorter patience than an operator's, so that silence is known after seconds. The figures of
silent faults contain it."""
HEAL_TIMEOUT_S = 120.0


class ChaosNetwork(LocalNetwork):
    """A broker and peers behind a chaos proxy; `broker`, `peer-0`, ... are its names too.

    Attributes:
        proxy: what spoils the connections.
    """

    def __init__(self, directory: Path, peers: int, *, seed: int = 0, **options: Any) -> None:
        self.proxy = ChaosProxy(self.name_of_port, seed)
        self.size = peers
        settings = {"policy": {**POLICY, **options.pop("policy", {})}}
        super().__init__(directory, peers, settings=settings, front=self.proxy.front, **options)

    def __enter__(self) -> ChaosNetwork:
        """Start everything."""
        self.proxy.__enter__()
        try:
            super().__enter__()
        except BaseException:
            self.proxy.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process, then the proxy."""
        self.proxy.heal()
        super().__exit__(kind, error, trace)
        self.proxy.__exit__(None, None, None)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all peers."""
        return tuple(f"peer-{number}" for number in range(self.size))

    def isolate(self, name: str, condition: Condition, *, others: tuple[str, ...] = ()) -> None:
        """Impose a condition between a process and `others`; without others: and everybody."""
        for other in others or ("broker", *self.names):
            if other != name:
                self.proxy.between(name, other, condition)

    def ended(self, name: str, timeout_s: float = HEAL_TIMEOUT_S) -> int:
        """Wait until a process has ended by itself; returns its exit status."""
        return self._processes.pop(name).wait(timeout_s)

    def pid(self, name: str) -> int:
        """Of a running process."""
        return self._processes[name].pid

    def restart(self, name: str) -> None:
        """Start a process again that has ended; of a peer, return before it is live."""
        if name == "broker":
            self.start_broker()
        else:
            self.start_peer(int(name.removeprefix("peer-")))

    def heal(self) -> None:
        """Undo every fault: processes run, connections are fine, no job is left, peers are free."""
        self.proxy.heal()
        for name in ("broker", *self.names):
            if not self.is_running(name):
                self.restart(name)
        with self.client() as client:
            for status in client.jobs():
                if not status.is_final:
                    client.job(status.job_id).cancel()
        self.wait_until(lambda: self.free() == self.size, "all peers are live and free",
                        HEAL_TIMEOUT_S)

    def free(self) -> int:
        """How many peers are live and run nothing."""
        return sum(peer["state"] == "live" and not peer["leases"] for peer in self.peers())

    def live(self) -> int:
        """How many peers are live."""
        return sum(peer["state"] == "live" for peer in self.peers())


def holder(status: JobStatus, segment: int) -> SegmentStatus:
    """Who holds a segment; its `peer_name` is the name of the process."""
    return status.segments[segment]
