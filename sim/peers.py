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
from sim.executor import State, SymbolicExecutor, lineage
from sim.links import Frame, Inbox, Log, Outlet
from sim.topologies import Edge
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
    first_serial: int = 0
    """Segments of the job's earlier cuts."""
    members: dict[int, ev.Member] = field(default_factory=dict)
    logs: dict[int, Log] = field(default_factory=dict)
    outlets: dict[int, Outlet] = field(default_factory=dict)
    inboxes: dict[tuple[int, int], Inbox] = field(default_factory=dict)
    """By the sender's segment and token."""
    arrivals: dict[int, tuple[Frame, Inbox]] = field(default_factory=dict)
    """What the core was shown and has neither taken nor dropped."""
    arrived: int = 0
    lines: dict[int, Line] = field(default_factory=dict)
    holders: tuple[ev.Holder, ...] = ()
    data_shards: int = 1
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot, or a shard of it, on a disk."""

    state: State
    digest: str
    shard: int
    data_shards: int


@dataclass(slots=True)
class Fabric:
    """Who is where, for what peers send each other, and what all of them compute."""

    peers: dict[str, SimulatedPeer] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    """Of the graph; needed where segments have several nodes."""


class SimulatedPeer:
    """One peer process at a time; `kill` ends it and what it knew, but for its disk.

    Attributes:
        core: the real one.
        works: by lease, those that are gone included.
        disk: snapshots by job, serial number of the segment, and position.
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
        self.disk: dict[tuple[str, int, int], Kept] = {}
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
        for lease, work in self.works.items():
            if not work.is_gone:
                self._end(lease)

    def leases(self) -> list[tuple[str, int, int, str]]:
        """What a registration names: (job, segment, token, phase)."""
        return [(*lease.key, str(lease.phase)) for lease in self.core.state.leases.values()]

    def _obey(self, command: do.AnyCommand) -> None:
        if isinstance(command, do.TellAvailability):
            return
        lease = (command.job_id, command.segment, command.token)
        match command:
            case do.SendReport():
                self.on_report(command)
            case do.LoadSegment():
                microbatches = command.spec.training.microbatches
                self.works[lease] = Work(
                    SymbolicExecutor(command.program, microbatches, self.fabric.edges),
                    command.first_serial)
                core = self.core
                self.world.soon(LOAD_MS, lambda: self._load(core, lease, command))
            case do.SetMembers():
                self._set_members(lease, command)
            case do.RunTask():
                self._run(lease, command.task)
            case do.StoreResult():
                digest = f"{command.token:064x}"
                self._later(LOAD_MS * self.slowness, lease, ev.ResultStored, digest=digest,
                            size_bytes=10)
            case do.TakeArrival() | do.DropArrival():
                self._judged(lease, command)
            case do.UnloadSegment():
                self._end(lease)
                core = self.core
                self.world.soon(LOAD_MS, lambda: self._tell_core(core, lease, ev.SegmentUnloaded))
            case do.TakeSnapshot() | do.SetHolders() | do.ForgetBefore():
                self._keep(lease, command)
            case do.PrepareStandby():
                core = self.core
                self.world.soon(LOAD_MS, lambda: self._tell_core(
                    core, lease, ev.StandbyPrepared, level=command.level))
            case do.SendAcknowledge() | do.SendNorms() | do.SendScale():
                self._send_numbers(lease, command)

    # --- the executor's side -------------------------------------------------------------------

    def _load(self, core: Peer, lease: LeaseKey, command: do.LoadSegment) -> None:
        """Compile; at a later position the state comes from a disk that has it."""
        work = self.works[lease]
        if work.is_gone or core is not self.core:
            return
        sources = [(part.serial, part.source) for part in command.parts]
        if command.snapshot is not None:
            sources.append((command.serial, command.snapshot))
        if sources:
            found = [self._fetch((command.job_id, serial, command.position), source)
                     for serial, source in sources]
            states = [state for state in found if state is not None]
            if len(states) < len(found):
                self._tell(lease, ev.SegmentBroke, code="SNAPSHOT_LOST", message="nobody has it")
                return
            for target, key, value in work.executor.restore(states, command.position):
                self._send_tensor(lease, target, key, value)
        self._tell(lease, ev.SegmentLoaded)

    def _fetch(self, at: tuple[str, int, int], source: ev.SnapshotSource) -> State | None:
        """From the own disk, or else from holders: any whole copy, or shards enough."""
        disks = [self.disk] + [self.fabric.peers[h.peer_id].disk for h in source.holders]
        found = [disk[at] for disk in disks if at in disk and disk[at].digest == source.digest]
        shards = {kept.shard for kept in found if kept.data_shards > 1}
        whole = any(kept.data_shards == 1 for kept in found)
        return found[0].state if whole or (found and len(shards) >= found[0].data_shards) else None

    def _run(self, lease: LeaseKey, task: ev.Task) -> None:
        work, core = self.works[lease], self.core

        def finish() -> None:
            if work.is_gone:
                return
            is_loss = work.executor.segment.has_loss and task.kind is ev.TaskKind.FORWARD
            loss = 1.0 / (1 + task.step) if is_loss else None
            for target, key, value in work.executor.run(task):
                self._send_tensor(lease, target, key, value)
            is_measure = task.kind is ev.TaskKind.MEASURE
            norms = work.executor.squared_norms() if is_measure else ()
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

    # --- snapshots -----------------------------------------------------------------------------

    def _keep(
        self, lease: LeaseKey, command: do.TakeSnapshot | do.SetHolders | do.ForgetBefore
    ) -> None:
        work = self.works[lease]
        match command:
            case do.TakeSnapshot():
                state = work.executor.state(command.position)
                core = self.core
                self.world.soon(LOAD_MS, lambda: self._written(
                    core, lease, command.position, state))
            case do.SetHolders():
                work.holders, work.data_shards = command.holders, command.data_shards
                own = (lease[0], work.first_serial + lease[1])
                newest = max((at for at in self.disk if at[:2] == own), default=None)
                if newest is not None and self.disk[newest].data_shards == 1:
                    self._give(lease, newest[2], self.disk[newest])
            case do.ForgetBefore():
                for log in work.logs.values():
                    log.forget_before(command.position)
                own_serial = work.first_serial + lease[1]
                for serial in (*range(work.first_serial), own_serial):
                    older = sorted(at for at in self.disk if at[:2] == (lease[0], serial)
                                   and at[2] < command.position)
                    for at in older[:-1]:
                        del self.disk[at]

    def _written(self, core: Peer, lease: LeaseKey, position: int, state: State) -> None:
        if core is not self.core or self.works[lease].is_gone:
            return
        kept = Kept(state, 4 * lineage(state), 0, 1)
        self.disk[lease[0], self.works[lease].first_serial + lease[1], position] = kept
        self._tell(lease, ev.SnapshotHeld, position=position, digest=kept.digest, size_bytes=10,
                   holder=self.peer_id, shard=0, data_shards=1, seconds=0.001)
        self._give(lease, position, kept)

    def _give(self, lease: LeaseKey, position: int, kept: Kept) -> None:
        """Put a snapshot onto the disks of its holders, one after the other."""
        work, core = self.works[lease], self.core
        for holder in work.holders:
            shard = Kept(kept.state, kept.digest, holder.shard, work.data_shards)

            def arrive(holder: ev.Holder = holder, shard: Kept = shard) -> None:
                if core is not self.core or work.is_gone:
                    return
                disk = self.fabric.peers[holder.peer_id].disk
                disk[lease[0], work.first_serial + lease[1], position] = shard
                self._tell(lease, ev.SnapshotHeld, position=position, digest=kept.digest,
                           size_bytes=10, holder=holder.peer_id, shard=holder.shard,
                           data_shards=shard.data_shards)

            self.world.soon(LOAD_MS, arrive)

    # --- the neighbours' side ------------------------------------------------------------------

    def _set_members(self, lease: LeaseKey, command: do.SetMembers) -> None:
        """Link with who holds what now; a new holder gets the log from its position on."""
        work = self.works[lease]
        work.members = {member.segment: member for member in command.members}
        for segment, member in work.members.items():
            outlet = work.outlets.get(segment)
            if segment == lease[1] or (outlet is not None and _is_same(outlet.member, member)):
                continue
            if outlet is not None:
                outlet.is_cut = True
                del work.outlets[segment]
            if member.peer_id:
                outlet = work.outlets[segment] = Outlet(member)
                for frame in work.logs.setdefault(segment, Log()).since(member.position):
                    self._carry(lease, outlet, frame)
        for inbox in list(work.inboxes.values()):
            self._show(lease, inbox)

    def _end(self, lease: LeaseKey) -> None:
        """Cut the lease's links. Whoever still counts on it notices in its own time."""
        work = self.works[lease]
        work.is_gone = True
        for outlet in work.outlets.values():
            outlet.is_cut = True
        for member in work.members.values():
            if member.peer_id and member.segment != lease[1]:
                neighbour = self.fabric.peers[member.peer_id]
                theirs = (lease[0], member.segment, member.token)
                self.world.soon(3_000, partial(neighbour.link_broke, theirs, lease, self.peer_id))

    def link_broke(self, lease: LeaseKey, other: LeaseKey, peer_id: str) -> None:
        """The other end of a link is gone."""
        work = self.works.get(lease)
        member = None if work is None or work.is_gone else work.members.get(other[1])
        if member is not None and member.token == other[2]:
            self._tell(lease, ev.NeighbourLost, neighbour=other[1], peer_id=peer_id,
                       code="PEER_LOST", message=f"{peer_id} is gone")

    def _send_numbers(
        self, lease: LeaseKey, command: do.SendAcknowledge | do.SendNorms | do.SendScale
    ) -> None:
        match command:
            case do.SendAcknowledge():
                tensors = self.works[lease].executor.segment.incoming
                source = next(t.source for t in tensors if t.edge == command.edge)
                key = (ev.TensorKind.ACKNOWLEDGE, command.edge, command.mode, command.step,
                       command.microbatch)
                self._send_tensor(lease, source, key, "")
            case do.SendNorms():
                self._send(lease, Frame(lease[1], 0, ev.NormsReceived, {
                    "source": lease[1], "step": command.step,
                    "squared_norms": command.squared_norms}))
            case do.SendScale():
                self._send(lease, Frame(lease[1], command.target, ev.ScaleReceived, {
                    "step": command.step, "scale": command.scale}))

    def _send_tensor(self, lease: LeaseKey, target: int, key: TensorKey, value: str) -> None:
        kind, edge, mode, step, microbatch = key
        self._send(lease, Frame(lease[1], target, ev.TensorReceived, {
            "kind": kind, "edge": edge, "mode": mode, "step": step, "microbatch": microbatch},
            value))

    def _send(self, lease: LeaseKey, frame: Frame) -> None:
        """Log a frame, and send it to who holds its target, if anybody does."""
        work = self.works[lease]
        work.logs.setdefault(frame.target, Log()).append(frame)
        outlet = work.outlets.get(frame.target)
        if outlet is not None:
            self._carry(lease, outlet, frame)

    def _carry(self, lease: LeaseKey, outlet: Outlet, frame: Frame) -> None:
        there = self.fabric.peers[outlet.member.peer_id]
        to = (lease[0], outlet.member.segment, outlet.member.token)

        def deliver() -> None:
            if not outlet.is_cut:
                there.receive(to, lease[2], frame)

        self.carry(self.works[lease], frame.target, frame.fields, deliver)

    def carry(
        self, work: Work, target: int, fields: dict[str, Any], deliver: Deliver
    ) -> None:
        """Let something arrive at another segment's peer, after what went there before."""
        work.lines.setdefault(target, Line(self.world, LINK_MS)).send(deliver)

    def receive(self, lease: LeaseKey, token: int, frame: Frame) -> None:
        """Something arrives from a neighbour's lease."""
        work = self.works.get(lease)
        if work is not None and not work.is_gone:
            sender = (frame.source, token)
            inbox = work.inboxes.setdefault(sender, Inbox(sender))
            inbox.frames.append(frame)
            self._show(lease, inbox)

    def _show(self, lease: LeaseKey, inbox: Inbox) -> None:
        """Show the core the next frame of a member of now; each waits for the one before it."""
        work = self.works[lease]
        member = work.members.get(inbox.member[0])
        is_open = member is not None and member.token == inbox.member[1]
        if not is_open or inbox.is_waiting or work.is_gone or not inbox.frames:
            return
        frame, inbox.is_waiting = inbox.frames.popleft(), True
        work.arrived += 1
        work.arrivals[work.arrived] = frame, inbox
        arrival, core = work.arrived, self.core
        self.world.after(0, lambda: self._tell_core(
            core, lease, frame.event_class, arrival=arrival, **frame.fields))

    def _judged(self, lease: LeaseKey, command: do.TakeArrival | do.DropArrival) -> None:
        work = self.works[lease]
        frame, inbox = work.arrivals.pop(command.arrival)
        if isinstance(command, do.TakeArrival) and frame.is_tensor:
            names = ("kind", "edge", "mode", "step", "microbatch")
            kind, edge, mode, step, microbatch = (frame.fields[name] for name in names)
            work.executor.arrived[kind, edge, mode, step, microbatch] = frame.value
        inbox.is_waiting = False
        self._show(lease, inbox)

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


def _is_same(one: ev.Member, other: ev.Member) -> bool:
    """Whether two members are the same lease; their positions may differ."""
    return (one.peer_id, one.token) == (other.peer_id, other.token)
