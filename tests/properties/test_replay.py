"""Peer cores whose neighbours are killed and go on elsewhere: the same lineage comes out.

The cores are real. Executors compute with hashes of all that went into a value, so two runs that
end with the same state have applied the same updates, in the same order, to the same inputs. The
shell is played: a log for each target, links that keep order and wait for the core's verdict. So is
the broker's part of a takeover. Run this file with a seed to repeat a failure.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import blake2b
from typing import Any

import pytest

from ir.graph import INFER
from ir.segment import BoundaryKind, Segment
from peer.core import commands as do
from peer.core import events as ev
from peer.core import invariants
from peer.core.dataflow import TensorKey
from peer.core.machine import Peer
from peer.core.phases import Mode
from peer.core.state import LeasePhase
from sim.topologies import TOPOLOGIES, inference_spec_of, segments_of, spec_of
from sim.world import SECOND, Line, World

JOB = "job_000001"
SEEDS = 15
MOST = 300_000
Kind = ev.TensorKind


def lineage(*parts: Any) -> str:
    """The name of a value: of everything that went into it."""
    return blake2b(repr(parts).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Frame:
    """What a segment sends to another."""

    target: int
    position: int
    event_class: type
    fields: dict[str, Any]
    value: str


class LineageExecutor:
    """One loaded segment whose numbers are lineages. A missing tensor raises `KeyError`."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.state: Any = lineage("blob", segment.index)
        self.shared = {t.edge: lineage("blob", t.edge) for t in self.edges(False, True)}
        self.shared_at = self.position = 0
        self.arrived: dict[TensorKey, str] = {}
        self.kept: dict[tuple[int, int], str] = {}
        self.deferred: dict[tuple[int, int], str] = {}
        self.sums: list[str] = []
        self.results: dict[int, str] = {}

    def edges(self, outgoing: bool, shared: bool) -> list[Any]:
        kind = BoundaryKind.PARAMETER if shared else BoundaryKind.ACTIVATION
        tensors = self.segment.outgoing if outgoing else self.segment.incoming
        return [tensor for tensor in tensors if tensor.kind is kind]

    def snapshot(self, position: int) -> Any:
        """The state, as it is when it is asked for."""
        if self.results or position > self.position:
            return {at: value for at, value in self.results.items() if at < position}
        assert position == self.position
        return self.state

    def restore(self, state: Any, position: int) -> Iterator[tuple[int, TensorKey, str]]:
        if isinstance(state, dict):
            self.results = dict(state)
            return
        self.state, self.position = state, position
        yield from self.shared_values()

    def run(self, task: ev.Task) -> list[tuple[int, TensorKey, str]]:
        return list(getattr(self, f"_{task.kind.value}")(task))

    def _forward(self, task: ev.Task) -> Iterator[tuple[int, TensorKey, str]]:
        if self.shared and self.shared_at != task.step:
            for edge in self.shared:
                self.shared[edge] = self.arrived.pop((Kind.PARAMETER, edge, Mode.TRAIN,
                                                      task.step, 0))
            self.shared_at = task.step
        inputs = [self.arrived.pop(key(Kind.ACTIVATION, t, task)) for t in self.edges(False, False)]
        value = lineage(self.state, self.shared, str(task.mode), task.step, task.microbatch, inputs)
        if task.mode is Mode.TRAIN:
            self.kept[task.step, task.microbatch] = value
        if task.mode is Mode.INFER:
            self.results[task.microbatch] = value
        for tensor in self.edges(True, False):
            yield tensor.target, key(Kind.ACTIVATION, tensor, task), lineage(value, tensor.edge)

    def _backward(self, task: ev.Task) -> Iterator[tuple[int, TensorKey, str]]:
        gradients = [self.arrived.pop(key(Kind.GRADIENT, t, task))
                     for t in self.edges(True, False) if t.differentiable]
        value = lineage(self.kept.pop((task.step, task.microbatch)), gradients)
        back = [t for t in self.edges(False, False) if t.differentiable]
        if back:
            self.deferred[task.step, task.microbatch] = value
        else:
            self.sums.append(value)
        for tensor in back:
            yield tensor.source, key(Kind.GRADIENT, tensor, task), lineage(value, tensor.edge)

    def _accumulate(self, task: ev.Task) -> Iterator[tuple[int, TensorKey, str]]:
        self.sums.append(self.deferred.pop((task.step, task.microbatch)))
        yield from ()

    def _collect(self, task: ev.Task) -> Iterator[tuple[int, TensorKey, str]]:
        for tensor in self.edges(False, True):
            if tensor.differentiable:
                wide = (Kind.PARAMETER_GRADIENT, tensor.edge, Mode.TRAIN, task.step, 0)
                yield tensor.source, wide, lineage(self.sums, tensor.edge)

    def _measure(self, task: ev.Task) -> Iterator[tuple[int, TensorKey, str]]:
        self.sums += [
            self.arrived.pop((Kind.PARAMETER_GRADIENT, t.edge, Mode.TRAIN, task.step, 0))
            for t in self.edges(True, True) if t.differentiable]
        yield from ()

    def norm(self) -> float:
        """Of this step: any number that depends on everything."""
        return 1.0 + int(lineage(self.sums)[:6], 16)

    def _update(self, task: ev.Task) -> Iterator[tuple[int, TensorKey, str]]:
        assert (task.step, self.kept, self.deferred) == (self.position, {}, {})
        self.state = lineage(self.state, self.sums, task.scale)
        self.sums, self.position = [], task.step + 1
        yield from self.shared_values()

    def shared_values(self) -> Iterator[tuple[int, TensorKey, str]]:
        for tensor in self.edges(True, True):
            wide = (Kind.PARAMETER, tensor.edge, Mode.TRAIN, self.position, 0)
            yield tensor.target, wide, lineage(self.state, tensor.edge)


def key(kind: Kind, tensor: Any, task: ev.Task) -> TensorKey:
    return kind, tensor.edge, task.mode, task.step, task.microbatch


class Link:
    """What one lease sends to another: in order, and one frame at a time is judged."""

    def __init__(self, node: Node, there: Node) -> None:
        self.node, self.there = node, there
        self.line = Line(node.world, 20.0)

    def pump(self, frames: list[Frame], cursor: int) -> None:
        """Deliver frame after frame; the next one only once this one is judged.

        What the log has forgotten meanwhile is skipped: everybody has come further.
        """
        while cursor < len(frames) and frames[cursor] is None:
            cursor += 1
        if cursor >= len(frames) or self.line.is_cut or self.there.is_gone:
            self.node.world.soon(20.0, partial(self.pump, frames, cursor)) if not (
                self.line.is_cut or self.there.is_gone or self.node.is_gone) else None
            return
        frame = frames[cursor]
        onward = partial(self.pump, frames, cursor + 1)
        self.line.send(lambda: self.there.receive(frame, onward))


class Node:
    """One process with one lease: the real core and a played shell."""

    def __init__(self, broker: Director, segment: Segment, token: int) -> None:
        self.broker, self.world = broker, broker.world
        self.core = Peer()
        self.segment, self.token = segment, token
        self.peer_id = f"peer_of_{token}"
        self.executor = LineageExecutor(segment)
        self.members: dict[int, ev.Member] = {}
        self.log: dict[int, list[Frame]] = {}
        self.links: dict[int, Link] = {}
        self.arrivals: dict[int, tuple[Frame, Callable[[], None]]] = {}
        self.arrived = 0
        self.is_gone = False
        self.slowness = self.world.random.choice([0.2, 1.0, 5.0])
        self.seen: Counter[str] = Counter()
        self.up, self.down = Line(self.world, 10.0), Line(self.world, 30.0)
        self.take(ev.BrokerConnected, last_report=0)

    def take(self, event_class: type, **fields: Any) -> None:
        if self.is_gone:
            return
        for command in self.core.apply(event_class(at_ns=self.world.now_ns, **fields)):
            self.seen[type(command).__name__] += 1
            self.obey(command)
        invariants.check(self.core.state)

    def on(self, event_class: type, **fields: Any) -> None:
        self.take(event_class, job_id=JOB, segment=self.segment.index, token=self.token, **fields)

    def later(self, longest_ms: float, event_class: type, **fields: Any) -> None:
        self.world.soon(longest_ms, lambda: self.on(event_class, **fields))

    def obey(self, command: Any) -> None:
        match command:
            case do.SendReport():
                self.up.send(partial(self.broker.hear, self, command.body))
            case do.LoadSegment():
                if command.position:
                    state = self.broker.stored[self.segment.index, command.position]
                    for target, tensor, value in self.executor.restore(state, command.position):
                        self.send_tensor(target, tensor, value)
                self.later(100.0, ev.SegmentLoaded)
            case do.SetMembers():
                self.link(command.members)
            case do.TakeArrival():
                frame, onward = self.arrivals.pop(command.arrival)
                if frame.fields.get("kind") not in (None, Kind.ACKNOWLEDGE):
                    names = ("kind", "edge", "mode", "step", "microbatch")
                    self.executor.arrived[tuple(frame.fields[n] for n in names)] = frame.value
                onward()
            case do.DropArrival():
                self.arrivals.pop(command.arrival)[1]()
            case do.TakeSnapshot():
                state = self.executor.snapshot(command.position)
                self.world.soon(500.0, partial(self.keep, command.position, state))
            case do.RunTask():
                self.world.soon(10.0 * self.slowness, partial(self.finish, command.task))
            case do.StoreResult():
                self.later(50.0, ev.ResultStored, digest="d", size_bytes=1)
            case do.ForgetBefore():
                for frames in self.log.values():  # numbers stay, as cursors count them
                    for number, frame in enumerate(frames):
                        if frame is not None and frame.position < command.position:
                            frames[number] = None
            case _:
                self.send_numbers(command)

    def keep(self, position: int, state: Any) -> None:
        """The snapshot has come to its holder."""
        if not self.is_gone:
            self.broker.stored[self.segment.index, position] = state
            self.on(ev.SnapshotHeld, position=position, digest="d", size_bytes=1, holder="h",
                    shard=0, data_shards=1)

    def finish(self, task: ev.Task) -> None:
        if self.is_gone:
            return
        for target, tensor, value in self.executor.run(task):
            self.send_tensor(target, tensor, value)
        is_forward = task.kind is ev.TaskKind.FORWARD
        loss = task.step + 0.5 if self.segment.has_loss and is_forward else None
        norms = ((f"w{self.segment.index}", self.executor.norm()),)
        deferred = task.kind is ev.TaskKind.BACKWARD and (
            (task.step, task.microbatch) in self.executor.deferred)
        self.on(ev.TaskFinished, task=task, loss=loss, has_deferred=deferred,
                squared_norms=norms if task.kind is ev.TaskKind.MEASURE else ())

    # --- what goes out -------------------------------------------------------------------------

    def send_tensor(self, target: int, tensor: TensorKey, value: str) -> None:
        kind, edge, mode, step, microbatch = tensor
        self.send(Frame(
            target, microbatch if mode is Mode.INFER else step, ev.TensorReceived,
            {"kind": kind, "edge": edge, "mode": mode, "step": step, "microbatch": microbatch},
            value))

    def send_numbers(self, command: Any) -> None:
        match command:
            case do.SendAcknowledge():
                source = next(t.source for t in self.segment.incoming if t.edge == command.edge)
                self.send_tensor(source, (Kind.ACKNOWLEDGE, command.edge, command.mode,
                                          command.step, command.microbatch), "")
            case do.SendNorms():
                self.send(Frame(0, command.step, ev.NormsReceived, {
                    "source": self.segment.index, "step": command.step,
                    "squared_norms": command.squared_norms}, ""))
            case do.SendScale():
                self.send(Frame(command.target, command.step, ev.ScaleReceived, {
                    "step": command.step, "scale": command.scale}, ""))

    def send(self, frame: Frame) -> None:
        frames = self.log.setdefault(frame.target, [])
        assert not frames or frames[-1] is None or frames[-1].position <= frame.position
        frames.append(frame)

    def link(self, members: tuple[ev.Member, ...]) -> None:
        """One link to each holder of now; a new holder is served from its position on."""
        for member in members:
            before = self.members.get(member.segment)
            self.members[member.segment] = member
            if member.segment == self.segment.index or (
                    before is not None and (before.peer_id, before.token) == (
                        member.peer_id, member.token)):
                continue
            if member.segment in self.links:
                self.links.pop(member.segment).line.is_cut = True
            if member.peer_id:
                frames = self.log.setdefault(member.segment, [])
                cursor = next((number for number, frame in enumerate(frames) if frame is not None
                               and frame.position >= member.position), len(frames))
                assert all(f is None or f.position < member.position for f in frames[:cursor])
                link = self.links[member.segment] = Link(
                    self, self.broker.nodes[member.segment, member.token])
                link.pump(frames, cursor)

    def receive(self, frame: Frame, onward: Callable[[], None]) -> None:
        if self.is_gone:
            return
        if not self.members:  # our end of the link is not open yet
            self.world.soon(50.0, partial(self.receive, frame, onward))
            return
        self.arrived += 1
        self.arrivals[self.arrived] = frame, onward
        self.on(frame.event_class, arrival=self.arrived, **frame.fields)


@dataclass
class Director:
    """The broker's part: who holds what, which position is complete, who goes on."""

    world: World
    spec: Any
    segments: tuple[Segment, ...]
    interval: int
    nodes: dict[tuple[int, int], Node] = field(default_factory=dict)
    stored: dict[tuple[int, int], Any] = field(default_factory=dict)
    held: set[tuple[int, int]] = field(default_factory=set)
    holder: dict[int, Node | None] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    finished: set[int] = field(default_factory=set)
    complete: int = 0
    token: int = 0
    losses: dict[int, tuple[float, ...]] = field(default_factory=dict)
    takeovers: int = 0
    is_started: bool = False

    def assign(self, index: int) -> None:
        self.token += 1
        node = Node(self, self.segments[index], self.token)
        self.nodes[index, self.token] = self.holder[index] = node
        self.steps[index] = self.complete
        source = ev.SnapshotSource(digest="d", size_bytes=1, data_shards=1, holders=())
        node.take(
            ev.AssignmentReceived, job_id=JOB, token=self.token, spec=self.spec,
            segment=self.segments[index], in_flight=self.world.random.randint(1, 4),
            segments=len(self.segments), stall_timeout_ms=1_000_000, position=self.complete,
            snapshot=source if self.complete else None)
        node.on(ev.SnapshotPlanReceived, interval=self.interval, holders=(), data_shards=1)

    def members(self) -> tuple[ev.Member, ...]:
        """Segments that are not ready are vacant for the others."""
        def member(index: int) -> ev.Member:
            node = self.holder[index]
            here = node is not None and index in self.ready
            return ev.Member(
                segment=index, peer_id=node.peer_id if node and here else "", tensor_address="a",
                token=node.token if node and here else 0, position=self.steps[index])

        return tuple(member(index) for index in range(len(self.segments)))

    def tell(self) -> None:
        """Everybody who is ready learns who is."""
        if not self.is_started and len(self.ready) < len(self.segments):
            return
        self.is_started = True
        members = self.members()
        for index in sorted(self.ready):
            node = self.holder[index]
            assert node is not None
            node.down.send(partial(node.on, ev.StartReceived, members=members))

    def hear(self, node: Node, body: Any) -> None:
        index = node.segment.index
        if self.holder[index] is not node:
            return
        match body:
            case do.ReadyBody():
                self.ready.add(index)
                self.tell()
            case do.StepsBody():
                assert body.first_step == self.steps[index]
                self.steps[index] += body.count
                if body.losses:
                    assert self.losses.setdefault(body.first_step, body.losses) == body.losses
            case do.SnapshotBody():
                assert body.position <= self.steps[index]
                self.held.add((index, body.position))
                self.move_on()
            case do.FinishedBody():
                self.finished.add(index)
            case do.FailedBody() | do.NeighbourLostBody():
                raise AssertionError(f"segment {index}: {body}")

    def move_on(self) -> None:
        """A position is complete once all have its snapshot, and nobody is replayed before it."""
        count = len(self.segments)
        reached = min(self.steps[index] for index in range(count) if self.holder[index])
        common = [position for position in range(self.complete + 1, reached + 1)
                  if all((index, position) in self.held for index in range(count))]
        if not common:
            return
        self.complete = max(common)
        for node in self.holder.values():
            if node is not None:
                node.down.send(partial(
                    node.on, ev.SnapshotCompleted, position=self.complete))

    def kill(self, index: int) -> None:
        """The holder is gone, with all that it knew and had sent but not delivered."""
        node = self.holder[index]
        if node is None or not self.is_started:
            return
        node.is_gone = True
        for link in node.links.values():
            link.line.is_cut = True
        self.holder[index] = None
        self.ready.discard(index)
        self.finished.discard(index)
        self.takeovers += 1
        if self.world.random.random() < 0.7:
            self.tell()
        self.world.soon(200.0, lambda: self.assign(index) if self.holder[index] is None else None)

    def is_done(self) -> bool:
        return len(self.finished) == len(self.segments)


def job_of(name: str, kind: str, clip: float) -> tuple[Any, tuple[Segment, ...]]:
    count, edges = TOPOLOGIES[name]
    if kind == INFER:
        return inference_spec_of(count, rows=120), segments_of(count, edges, INFER)
    return spec_of(count, steps=9, microbatches=3, evaluate_every=3, evaluation_microbatches=2,
                   clip_norm=clip), segments_of(count, edges)


def run(name: str, kind: str, clip: float, seed: int, kills: int, interval: int = 2) -> Director:
    """A job to its end, with so many kills at random times; several may come at once."""
    world = World(seed)
    spec, segments = job_of(name, kind, clip)
    director = Director(world, spec, segments, interval)
    for index in range(len(segments)):
        director.assign(index)
    for _ in range(kills):
        at_ns = int(world.random.random() * 4 * SECOND)
        for index in world.random.sample(
                range(len(segments)), world.random.choice([1, 1, 1, 2, len(segments)])):
            world.at(at_ns + world.delay_ns(20.0), partial(director.kill, index))
    assert world.run(director.is_done, MOST), f"seed {seed}: {waits(director)}"
    return director


def waits(director: Director) -> str:
    """Why a run did not end."""
    return "; ".join(
        f"{lease.segment} {lease.phase} {lease.run.phase} waits for {lease.waiting}, holds "
        f"{lease.held}"
        for node in director.holder.values() if node for lease in node.core.state.leases.values())


def outcome(director: Director) -> list[Any]:
    """What every segment ends with."""
    nodes = [director.holder[index] for index in range(len(director.segments))]
    return [(node.executor.state, node.executor.results) for node in nodes if node]


@cache
def undisturbed(name: str, kind: str, clip: float) -> list[Any]:
    return outcome(run(name, kind, clip, 0, kills=0))


@pytest.mark.parametrize(("name", "kind", "clip"), [
    ("two", "train", 0.0), ("chain", "train", 1.0), ("skip", "train", 0.0),
    ("diamond", "train", 1.0), ("tied", "train", 1.0), ("tied twice", "train", 0.0),
    ("frozen", "train", 0.0), ("roots", "train", 1.0),
    ("chain", INFER, 0.0), ("skip", INFER, 0.0)])
def test_whoever_is_killed_the_same_lineage_comes_out(name: str, kind: str, clip: float) -> None:
    wanted, seen, takeovers, late = undisturbed(name, kind, clip), Counter[str](), 0, 0
    for seed in range(SEEDS):
        print(f"seed {seed}, {name}, {kind}, clip {clip}")
        director = run(name, kind, clip, seed, kills=seed % 6, interval=1 + seed % 3)
        assert outcome(director) == wanted
        for node in director.nodes.values():
            seen += node.seen
            (lease,) = node.core.state.leases.values()
            late += lease.assignment.position > 0
            if not node.is_gone:
                assert lease.phase is LeasePhase.FINISHED
                assert not lease.held
        takeovers += director.takeovers
    assert min(takeovers, late, seen["DropArrival"], seen["ForgetBefore"]) > SEEDS // 2, (
        takeovers, late, seen)


def test_it_is_the_numbers_that_are_compared() -> None:
    """A run that loses an update, or uses a snapshot of another position, has another lineage."""
    executor = LineageExecutor(segments_of(*TOPOLOGIES["one"])[0])
    states = [executor.state]
    for step in (0, 1):
        task = ev.Task(kind=ev.TaskKind.UPDATE, mode=Mode.TRAIN, step=step)
        executor.run(task)
        states.append(executor.state)
    assert len(set(states)) == 3
    assert undisturbed("two", "train", 0.0) != undisturbed("two", "train", 1.0)


if __name__ == "__main__":
    for case in [("tied", "train", 1.0), ("chain", "train", 1.0)]:
        print(run(*case, int(sys.argv[1]), kills=5).takeovers)
