"""One peer core with a clock, and neighbours that say what a test lets them say."""

from __future__ import annotations

from typing import Any

import pytest

from peer.core import commands as do
from peer.core import events as ev
from peer.core import invariants
from peer.core.machine import Peer
from peer.core.phases import Mode
from sim.topologies import TOPOLOGIES, segments_of, spec_of

MS = 1_000_000
JOB = "job_000001"
Commands = tuple[do.AnyCommand, ...]
ARRIVALS = (ev.TensorReceived, ev.NormsReceived, ev.ScaleReceived)
SNAPSHOT = ev.SnapshotSource(
    digest="5" * 64, size_bytes=10, data_shards=1,
    holders=(ev.Holder(peer_id="peer_9", address="there:1"),))


class Rig:
    """A peer with one segment of a job of some topology.

    Attributes:
        arrivals: how many things neighbours have sent, numbered from 1.
        taken, dropped: arrivals that the core has taken and dropped, in that order.
        commands: all that the last event led to; `apply` and its kin leave takes and drops out.
    """

    def __init__(self, topology: str = "one", segment: int = 0, in_flight: int = 4,
                 **spec: Any) -> None:
        self.peer = Peer()
        self.now_ns = 0
        self.token = 7
        self.count, edges = TOPOLOGIES[topology]
        self.segments = segments_of(self.count, edges)
        self.index = segment
        self.in_flight = in_flight
        self.spec = spec_of(self.count, **spec)
        self.arrivals = 0
        self.taken: list[int] = []
        self.dropped: list[int] = []
        self.commands: Commands = ()

    def apply(self, event_class: type, /, **fields: Any) -> Commands:
        if event_class in ARRIVALS:
            self.arrivals += 1
            fields = {"arrival": self.arrivals, **fields}
        self.commands = self.peer.apply(event_class(at_ns=self.now_ns, **fields))
        invariants.check(self.peer.state)
        self.taken += [c.arrival for c in self.commands if isinstance(c, do.TakeArrival)]
        self.dropped += [c.arrival for c in self.commands if isinstance(c, do.DropArrival)]
        return tuple(
            c for c in self.commands if not isinstance(c, (do.TakeArrival, do.DropArrival)))

    def on(self, event_class: type, /, **fields: Any) -> Commands:
        """An event about the lease."""
        lease = {"job_id": JOB, "segment": self.index, "token": self.token}
        return self.apply(event_class, **{**lease, **fields})

    def assign(self, **changes: Any) -> Commands:
        values = {"job_id": JOB, "token": self.token, "spec": self.spec,
                  "segment": self.segments[self.index], "in_flight": self.in_flight,
                  "segments": self.count, "stall_timeout_ms": 5_000}
        return self.apply(ev.AssignmentReceived, **{**values, **changes})

    def members(self, **holders: Any) -> tuple[ev.Member, ...]:
        """Every segment's holder; `s1=("peer_9", 12)` for other ones than the usual."""
        def member(index: int) -> ev.Member:
            peer_id, token = holders.get(f"s{index}", (f"peer_{index}", self.token))
            return ev.Member(
                segment=index, peer_id=peer_id, token=token, tensor_address="here:1")

        return tuple(member(index) for index in range(self.count))

    def start(self, **holders: Any) -> Commands:
        return self.on(ev.StartReceived, members=self.members(**holders))

    def run(self, position: int = 0) -> Commands:
        """Connected, assigned, loaded, started."""
        self.apply(ev.BrokerConnected, last_report=0)
        self.assign(position=position, snapshot=SNAPSHOT if position else None)
        self.on(ev.SegmentLoaded)
        return self.start()

    def tensor(self, kind: str, edge: int, microbatch: int = 0, step: int = 0,
               mode: Mode = Mode.TRAIN) -> Commands:
        return self.on(ev.TensorReceived, kind=ev.TensorKind(kind), edge=edge, mode=mode,
                       step=step, microbatch=microbatch)

    def done(self, loss: float | None = None, norms: tuple = (), **fields: Any) -> Commands:
        """The executor finishes what it works on."""
        busy = self.peer.state.busy
        assert busy is not None, "the executor has nothing to do"
        is_loss = (busy.task.kind is ev.TaskKind.FORWARD
                   and self.segments[self.index].has_loss)
        loss = 0.5 if loss is None and is_loss else loss
        return self.on(ev.TaskFinished, task=busy.task, loss=loss, squared_norms=norms, **fields)

    @property
    def lease(self) -> Any:
        return self.peer.state.leases.get((JOB, self.index))

    @property
    def busy(self) -> str:
        """The running task in short: F0 forward, B0 backward, E0 evaluate, C M U."""
        busy = self.peer.state.busy
        return short(busy.task) if busy else ""


def short(task: ev.Task) -> str:
    letter = task.kind.value[0].upper()
    if task.kind in (ev.TaskKind.FORWARD, ev.TaskKind.BACKWARD):
        letter = "E" if task.mode is Mode.EVALUATE else letter
        return f"{letter}{task.microbatch}"
    return letter


@pytest.fixture
def rig() -> Any:
    """Makes a `Rig`."""
    return Rig


@pytest.fixture
def bodies() -> Any:
    """Bodies of the reports among commands."""
    return lambda commands: [c.body for c in commands if isinstance(c, do.SendReport)]


@pytest.fixture
def kinds() -> Any:
    """Names of commands, in order."""
    return lambda commands: [type(command).__name__ for command in commands]
