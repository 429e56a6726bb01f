"""A simulated peer: the real peer core, and a shell whose every answer takes a random time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from peer.core import commands as do
from peer.core import events as ev
from peer.core import invariants
from peer.core.dataflow import TensorKey
from peer.core.machine import Peer
from sim.executor import SymbolicExecutor
from sim.world import Deliver, Line, World

LOAD_MS = 300.0
TASK_MS = 20.0
LINK_MS = 30.0

LeaseKey = tuple[str, int, int]
"""(job, segment, token)"""


@dataclass(slots=True)
class Work:
    """What the shell has for one lease."""

    executor: SymbolicExecutor
    members: dict[int, ev.Member] = field(default_factory=dict)
    early: list[Deliver] = field(default_factory=list)
    """What neighbours sent before our links were open."""
    lines: dict[int, Line] = field(default_factory=dict)
    arrivals: dict[int, TensorKey | None] = field(default_factory=dict)
    """What neighbours sent, until the core takes or drops it; None for what is no tensor."""
    arrived: int = 0
    is_gone: bool = False


@dataclass(slots=True)
class Fabric:
    """Who is where, for what peers send each other."""

    peers: dict[str, SimulatedPeer] = field(default_factory=dict)


class SimulatedPeer:
    """One peer process at a time; `kill` ends it and what it knew.

    Attributes:
        core: the real one.
        works: by lease, those that are gone included.
        slowness: factor on the time that its tasks take.
        on_report: where reports go.
        on_command: sees every command, for tests.
    """

    def __init__(self, world: World, fabric: Fabric, peer_id: str) -> None:
        self.world = world
        self.fabric = fabric
        self.peer_id = peer_id
        self.core = Peer()
        self.works: dict[LeaseKey, Work] = {}
        self.slowness = world.random.choice([0.05, 1.0, 1.0, 20.0])
        self.on_report: Callable[[do.SendReport], None] = lambda report: None
        self.on_command: Callable[[do.AnyCommand], None] = lambda command: None
        self._wakeup_ns: int | None = None
        fabric.peers[peer_id] = self

    def take(self, event_class: type[ev.AnyEvent], **fields: Any) -> None:
        """Let the core take an event now, and carry out what it asks for."""
        event: Any = event_class(at_ns=self.world.now_ns, **fields)
        commands = self.core.apply(event)
        invariants.check(self.core.state)
        for command in commands:
            self.on_command(command)
            self._obey(command)
        self._set_alarm()

    def kill(self) -> None:
        """End the process and start another one that knows nothing. Neighbours notice."""
        self.core, self._wakeup_ns = Peer(), None
        for (job_id, _, _), work in self.works.items():
            if work.is_gone:
                continue
            work.is_gone = True
            for member in work.members.values():
                neighbour = self.fabric.peers[member.peer_id]
                if neighbour is not self:
                    theirs = (job_id, member.segment, member.token)
                    self.world.soon(3_000, partial(neighbour.link_broke, theirs, self.peer_id))

    def link_broke(self, lease: LeaseKey, other: str) -> None:
        """The other end of a link is another process, or none."""
        work = self.works.get(lease)
        if work is not None and not work.is_gone:
            self._tell(lease, ev.SegmentBroke, code="PEER_LOST", message=f"{other} is gone",
                       blamed_peer=other)

    def leases(self) -> list[tuple[str, int, int, str]]:
        """What a registration names: (job, segment, token, phase)."""
        return [(*lease.key, str(lease.phase)) for lease in self.core.state.leases.values()]

    def _obey(self, command: do.AnyCommand) -> None:
        lease = (command.job_id, command.segment, command.token)
        match command:
            case do.SendReport():
                self.on_report(command)
            case do.LoadSegment():
                microbatches = command.spec.training.microbatches
                self.works[lease] = Work(SymbolicExecutor(command.program, microbatches))
                self._later(LOAD_MS, lease, ev.SegmentLoaded)
            case do.SetMembers():
                self._open_links(self.works[lease], command)
            case do.RunTask():
                self._run(lease, command.task)
            case do.StoreResult():
                digest = f"{command.token:064x}"
                self._later(LOAD_MS * self.slowness, lease, ev.ResultStored, digest=digest,
                            size_bytes=10)
            case do.TakeArrival():
                key = self.works[lease].arrivals.pop(command.arrival)
                if key is not None and key[0] is not ev.TensorKind.ACKNOWLEDGE:
                    self.works[lease].executor.arrived.add(key)
            case do.DropArrival():
                self.works[lease].arrivals.pop(command.arrival)
            case do.UnloadSegment():
                self.works[lease].is_gone = True
                core = self.core
                self.world.soon(LOAD_MS, lambda: self._tell_core(core, lease, ev.SegmentUnloaded))
            case _:
                self._send_numbers(lease, command)

    def _open_links(self, work: Work, command: do.SetMembers) -> None:
        work.members = {member.segment: member for member in command.members}
        early, work.early = work.early, []
        for deliver in early:
            deliver()

    def _run(self, lease: LeaseKey, task: ev.Task) -> None:
        work, core = self.works[lease], self.core

        def finish() -> None:
            if work.is_gone:
                return
            is_loss = work.executor.segment.has_loss and task.kind is ev.TaskKind.FORWARD
            loss = 1.0 / (1 + task.step) if is_loss else None
            norms = ((f"w{lease[1]}", 1.0),) if task.kind is ev.TaskKind.MEASURE else ()
            for target, key in work.executor.run(task):
                self._send_tensor(lease, target, key)
            is_backward = task.kind is ev.TaskKind.BACKWARD
            deferred = is_backward and work.executor.has_deferred(task)
            self.world.after(self.handover_ns(), lambda: self._tell_core(
                core, lease, ev.TaskFinished, task=task, loss=loss, has_deferred=deferred,
                squared_norms=norms))

        self.world.after(self.task_ns(lease, task), finish)

    def task_ns(self, lease: LeaseKey, task: ev.Task) -> int:
        """How long the executor takes for a task."""
        return self.world.delay_ns(TASK_MS * self.slowness)

    def handover_ns(self) -> int:
        """How much later than a task's tensors its end is known."""
        return self.world.delay_ns(TASK_MS / 4)

    def _send_numbers(self, lease: LeaseKey, command: do.AnyCommand) -> None:
        match command:
            case do.SendAcknowledge():
                tensors = self.works[lease].executor.segment.incoming
                source = next(t.source for t in tensors if t.edge == command.edge)
                key = (ev.TensorKind.ACKNOWLEDGE, command.edge, command.mode, command.step,
                       command.microbatch)
                self._send_tensor(lease, source, key)
            case do.SendNorms():
                self._send(lease, 0, ev.NormsReceived, source=lease[1], step=command.step,
                           squared_norms=command.squared_norms)
            case do.SendScale():
                self._send(lease, command.target, ev.ScaleReceived, step=command.step,
                           scale=command.scale)

    def _send_tensor(self, lease: LeaseKey, target: int, key: TensorKey) -> None:
        kind, edge, mode, step, microbatch = key
        self._send(lease, target, ev.TensorReceived, kind=kind, edge=edge, mode=mode, step=step,
                   microbatch=microbatch)

    def _send(self, lease: LeaseKey, target: int, event_class: type, **fields: Any) -> None:
        """Send to another segment of the job; links keep the order."""
        work = self.works[lease]
        member = work.members[target]
        there = self.fabric.peers[member.peer_id]
        to = (lease[0], target, member.token)
        self.carry(work, target, fields, lambda: there.receive(to, event_class, fields))

    def carry(
        self, work: Work, target: int, fields: dict[str, Any], deliver: Deliver
    ) -> None:
        """Let something arrive at another segment's peer, after what went there before."""
        work.lines.setdefault(target, Line(self.world, LINK_MS)).send(deliver)

    def receive(self, lease: LeaseKey, event_class: type, fields: dict[str, Any]) -> None:
        """Something arrives over a link; it waits until our end is open."""
        work = self.works.get(lease)
        if work is None or work.is_gone:
            return
        if not work.members:
            work.early.append(lambda: self.receive(lease, event_class, fields))
            return
        work.arrived += 1
        work.arrivals[work.arrived] = None if "kind" not in fields else (
            fields["kind"], fields["edge"], fields["mode"], fields["step"], fields["microbatch"])
        self._tell(lease, event_class, arrival=work.arrived, **fields)

    def _later(self, longest_ms: float, lease: LeaseKey, event_class: type, **fields: Any) -> None:
        work, core = self.works[lease], self.core
        self.world.soon(longest_ms, lambda: None if work.is_gone else self._tell_core(
            core, lease, event_class, **fields))

    def _tell(self, lease: LeaseKey, event_class: type, **fields: Any) -> None:
        self._tell_core(self.core, lease, event_class, **fields)

    def _tell_core(self, core: Peer, lease: LeaseKey, event_class: type, **fields: Any) -> None:
        if core is self.core:  # else it is of a process that was killed
            job_id, segment, token = lease
            self.take(event_class, job_id=job_id, segment=segment, token=token, **fields)

    def _set_alarm(self) -> None:
        wakeup_ns = self.core.next_wakeup_ns()
        if wakeup_ns is not None and (self._wakeup_ns is None or wakeup_ns < self._wakeup_ns):
            self._wakeup_ns = wakeup_ns
            self.world.at(wakeup_ns, self._ring)

    def _ring(self) -> None:
        self._wakeup_ns = None
        wakeup_ns = self.core.next_wakeup_ns()
        if wakeup_ns is not None and wakeup_ns <= self.world.now_ns:
            self.take(ev.TimerFired)
        else:
            self._set_alarm()
