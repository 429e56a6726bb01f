"""A broker with a clock of its own and peers that say what a test lets them say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import invariants
from broker.core.machine import Broker
from broker.core.policy import Policy
from dag.cluster import PeerRates
from dag.job import ColumnRef, JobSpec, OptimizerSpec, ParameterRef, TrainingSpec
from dag.placement import Infeasible, Placement, Refusal, SegmentPlacement
from ir.graph import TensorType
from ir.segment import BoundaryKind, BoundaryTensor, Segment

MS = 1_000_000
SECOND = 1_000 * MS
START_NS = 1_700_000_000 * SECOND
RATES = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=5e11, memory_bytes_per_s=1e11)
F32 = TensorType("float32", (4, 4))
Commands = tuple[do.AnyCommand, ...]


def digest(number: int) -> str:
    return f"{number:064x}"


def make_spec(**changes: Any) -> JobSpec:
    """A valid job with parameters w0..w3 and the columns x and y."""
    training = {"steps": 3, "batch_size": 8, "microbatches": 4, "seed": 1,
                "optimizer": OptimizerSpec(kind="adamw", learning_rate=1e-3)}
    training.update(changes.pop("training", {}))
    values: dict[str, Any] = {
        "name": "tiny",
        "graph_digest": digest(1),
        "graph_bytes": 1000,
        "parameters": tuple(
            ParameterRef(name=f"w{i}", aliases=(), digest=digest(100 + i), blob_bytes=200,
                         type=F32, trainable=True)
            for i in range(4)
        ),
        "columns": tuple(
            ColumnRef(name=name, split=split, digest=digest(200 + 10 * j + i), blob_bytes=1000,
                      type=TensorType("float32", (16, 4)))
            for i, name in enumerate(("x", "y"))
            for j, split in enumerate(("train", "validation"))
        ),
        "training": TrainingSpec(**training),
        "peers": 0,
    }
    return JobSpec(**{**values, **changes})


def make_placement(peers: list[str], tied: bool = False, linked: bool = False) -> Placement:
    """One segment per peer, each computed beside the others.

    `tied`: the last segment shares w0 with the first. `linked`: a chain, in which each segment
    gives the next one an activation.
    """
    last = len(peers) - 1
    links = [BoundaryTensor(edge=i, value=f"v{i}", kind=BoundaryKind.ACTIVATION, source=i,
                            target=i + 1, type=F32, differentiable=True, consumers=(i + 1,))
             for i in range(last)] * linked
    shared = BoundaryTensor(edge=0, value="w0", kind=BoundaryKind.PARAMETER, source=0, target=last,
                            type=F32, differentiable=True, consumers=(9,))
    segments = tuple(
        SegmentPlacement(
            segment=Segment(
                index=i, nodes=(i,), parameters=(f"w{i}",),
                data_inputs=("x",) * (i == 0) + ("y",) * (i == last),
                incoming=(shared,) if tied and i == last else tuple(links[i - 1:i] if i else ()),
                outgoing=(shared,) if tied and i == 0 else tuple(links[i:i + 1]),
                has_loss=i == last),
            peer_id=peer, in_flight=2, memory_bytes=1 << 20, forward_s=0.1, backward_s=0.2)
        for i, peer in enumerate(peers)
    )
    return Placement(segments=segments, algorithm="test", step_s=1.5)


def make_refusal(text: str = "too little memory") -> Infeasible:
    refusal = Refusal(subject="peer_a", rule="memory", wanted=2.0, had=1.0, text=text)
    return Infeasible(refusals=(refusal,), missing_bytes=4096)


def hardware(**changes: Any) -> ev.PeerHardware:
    values: dict[str, Any] = {
        "device": "cpu", "device_name": "CPU", "memory_bytes": 8 << 30, "rates": RATES,
        "executor": "torch", "platform": "linux", "threads": 1}
    return ev.PeerHardware(**{**values, **changes})


@dataclass
class World:
    """The core, the time, and what each peer last said. Every step checks the invariants."""

    broker: Broker = field(default_factory=Broker)
    now_ns: int = START_NS
    requests: int = 0
    sessions: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    tokens: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    """(job, segment) -> (peer, token), from the assignments seen."""
    duties: dict[tuple[str, int, str], do.StandBy] = field(default_factory=dict)
    """(job, segment, peer) -> what the peer was last told to stand by for."""
    journal: list[ev.AnyEvent] = field(default_factory=list)

    def apply(self, kind: type, **values: Any) -> Commands:
        return self.take(kind(at_ns=self.now_ns, **values))

    def take(self, event: ev.AnyEvent) -> Commands:
        if ev.is_journalled(event):
            self.journal.append(event)
        commands = self.broker.apply(event)
        invariants.check(self.broker.state)
        for command in commands:
            if isinstance(command, do.AssignSegment):
                at = (command.job_id, command.segment.index)
                self.tokens[at] = (command.peer_id, command.token)
                self.duties.pop((*at, command.peer_id), None)
            if isinstance(command, do.StandBy):
                self.duties[command.job_id, command.segment.index, command.peer_id] = command
            if isinstance(command, do.RevokeSegment):
                self.duties = {at: duty for at, duty in self.duties.items()
                               if duty.token != command.token}
        return commands

    def request(self) -> str:
        self.requests += 1
        return f"r{self.requests}"

    def start(self, **policy: int) -> Commands:
        return self.apply(ev.BrokerStarted, policy=Policy(**policy))

    def connect(self, peer: str, *leases: ev.HeldLease, **changes: Any) -> Commands:
        self.sessions += 1
        values: dict[str, Any] = {
            "session_id": f"s{self.sessions}", "name": peer.upper(), "software_version": "1",
            "tensor_address": f"{peer}:7000", "hardware": hardware(), "leases": leases}
        return self.apply(ev.PeerConnected, peer_id=peer, **{**values, **changes})

    def disconnect(self, peer: str) -> Commands:
        session = self.broker.state.peers[peer].session_id
        return self.apply(ev.PeerDisconnected, peer_id=peer, session_id=session)

    def beat(self, *peers: str) -> Commands:
        return self.apply(ev.HeartbeatsSeen, peer_ids=peers)

    def sleep(self, ms: int, *beating: str) -> Commands:
        """Let time pass: timers fire when the core asked for it, `beating` peers show life."""
        end = self.now_ns + ms * MS
        commands: list[do.AnyCommand] = []
        while True:
            wakeup = self.broker.next_wakeup_ns()
            beat = min(end, self.now_ns + SECOND)
            if wakeup is not None and wakeup <= beat:
                self.now_ns = max(self.now_ns, wakeup)
                commands += self.take(self.broker.timer(self.now_ns))
                continue
            self.now_ns = beat
            commands += self.beat(*beating)
            if beat == end:
                return tuple(commands)

    def submit(
        self, spec: JobSpec | None = None, owner: str = "client_a", name: str = ""
    ) -> Commands:
        request = self.request()
        return self.apply(ev.JobSubmitted, request_id=request, owner_id=owner,
                          submission_id=name or request, spec=spec or make_spec())

    def solve(self, job: str, peers: list[str], **changes: Any) -> Commands:
        values: dict[str, Any] = {
            "cluster_version": self.broker.state.jobs[job].considered_version,
            "answer": make_placement(peers), "infeasible": None}
        return self.apply(ev.PlacementSolved, job_id=job, **{**values, **changes})

    def refuse(self, job: str) -> Commands:
        return self.solve(job, [], answer=None, infeasible=make_refusal())

    def report(self, kind: type, job: str, segment: int, /, **values: Any) -> Commands:
        peer, token = self.tokens[job, segment]
        number = self.numbers.get(peer, 0) + 1
        head = {"peer_id": peer, "number": number, "job_id": job, "segment": segment,
                "token": token}
        event = {**head, **values}
        self.numbers[event["peer_id"]] = max(number, event["number"])
        return self.apply(kind, **event)

    def steps(self, job: str, segment: int, first: int, count: int = 1, **values: Any) -> Commands:
        lease = self.broker.state.jobs[job].leases[segment]
        losses = tuple(1.0 / (abs(first + i) + 1) for i in range(count))
        return self.report(
            ev.StepsDone, job, segment,
            **{"first_step": first, "count": count,
               "losses": losses if lease.segment.has_loss else (), **values})

    def finish(self, job: str, segment: int, **more: Any) -> Commands:
        return self.report(ev.SegmentFinished, job, segment,
                           result_digest=digest(900 + segment), result_bytes=300, **more)

    def held(self, job: str, segment: int, phase: str = "running", **changes: Any) -> ev.HeldLease:
        token = self.tokens[job, segment][1]
        values = {"job_id": job, "segment": segment, "token": token, "phase": phase}
        return ev.HeldLease(**{**values, **changes})

    def prepared(self, *peers: str, spec: JobSpec | None = None, linked: bool = False) -> str:
        """A job whose segments are assigned to `peers`, connected here if they are not."""
        for peer in peers:
            if peer not in self.broker.state.peers:
                self.connect(peer)
        self.submit(spec)
        job = list(self.broker.state.jobs)[-1]
        self.solve(job, list(peers), answer=make_placement(list(peers), linked=linked))
        return job

    def running(self, *peers: str, spec: JobSpec | None = None, linked: bool = False) -> str:
        job = self.prepared(*peers, spec=spec, linked=linked)
        for segment in range(len(peers)):
            self.report(ev.SegmentReady, job, segment)
        return job

    def training(self, *peers: str, **training: Any) -> str:
        """A long job in a chain over `peers`: 1000 steps of 1.5 predicted seconds."""
        spec = make_spec(training={"steps": 1_000, **training})
        return self.running(*peers, spec=spec, linked=True)

    def training_with_backups(self) -> str:
        """Over peer_a and peer_b; peer_c and peer_d are ready, and have both at position 4."""
        job = self.training("peer_a", "peer_b")
        for peer in ("peer_c", "peer_d"):
            self.connect(peer)
        self.reach_all(job)
        self.complete(job, 4, "peer_c", "peer_d")
        return job

    def connect_at(self, **addresses: str) -> None:
        for peer, address in addresses.items():
            self.connect(peer, tensor_address=address)

    def backups(self, job: str, segment: int) -> dict[str, str]:
        """Who stands by for a segment, and how ready it was told to be."""
        return {peer: duty.level for (of, index, peer), duty in sorted(self.duties.items())
                if (of, index) == (job, segment)}

    def reach(self, job: str, segment: int, peer: str, level: str, **more: Any) -> Commands:
        """A standby has come to a level."""
        return self.report(ev.StandbyReady, job, segment, peer_id=peer, level=level,
                           token=self.duties[job, segment, peer].token,
                           number=self.numbers.get(peer, 0) + 1, **more)

    def reach_all(self, job: str) -> None:
        """Every standby of a job has come to the level that it was told."""
        for (of, segment, peer), duty in sorted(self.duties.items()):
            if of == job:
                self.reach(job, segment, peer, duty.level)

    def rank(self, job: str, *ranking: dict[str, float]) -> Commands:
        """The planner's answers, until it is asked no more: what a microbatch takes on whom."""
        record = self.broker.state.jobs[job]
        commands: list[do.AnyCommand] = []
        while record.is_ranking_asked:
            commands += self.apply(
                ev.BackupsRanked, job_id=job, cluster_version=record.ranked_version,
                ranking=tuple(tuple(times.items()) for times in ranking))
        return tuple(commands)

    def store(self, job: str, segment: int, position: int, holder: str, **more: Any) -> Commands:
        """A holder has a segment's snapshot."""
        values = {"digest": digest(1_000 * (segment + 1) + position), "size_bytes": 500,
                  "shard": 0, "data_shards": 1, "seconds": 0.0}
        return self.report(ev.SnapshotStored, job, segment, position=position, holder=holder,
                           **{**values, **more})

    def advance(self, job: str, to: int) -> Commands:
        """Every segment that runs has done `to` steps."""
        commands: Commands = ()
        for lease in list(self.broker.state.jobs[job].leases):
            if lease.phase == "running" and lease.steps_done < to:
                commands += self.steps(job, lease.index, lease.steps_done, to - lease.steps_done)
        return commands

    def complete(self, job: str, position: int, *holders: str) -> None:
        """Every segment has come to a position, and `holders` have all snapshots of it."""
        self.advance(job, position)
        for segment in range(len(self.broker.state.jobs[job].leases)):
            for holder in holders:
                self.store(job, segment, position, holder)

    def lose(self, *peers: str) -> Commands:
        """Peers are gone for good, the others show life."""
        commands = [command for peer in peers for command in self.disconnect(peer)]
        return (*commands, *self.sleep(20_000, *self.there()))

    def there(self) -> tuple[str, ...]:
        """Peers with a session."""
        return tuple(name for name, peer in self.broker.state.peers.items() if peer.session_id)

    def reason(self, job: str) -> str:
        return self.broker.state.jobs[job].reason

    def state_of(self, job: str) -> str:
        return str(self.broker.state.jobs[job].state.value)


@pytest.fixture
def world() -> World:
    world = World()
    world.start()
    return world


@pytest.fixture
def make() -> Any:
    """The builders of this file, for tests that need them."""

    class Make:
        spec = staticmethod(make_spec)
        placement = staticmethod(make_placement)
        refusal = staticmethod(make_refusal)
        hardware = staticmethod(hardware)
        digest = staticmethod(digest)
        World = World

    return Make


def events(commands: Commands) -> list[str]:
    """Names of the operator's notes."""
    return [command.event for command in commands if isinstance(command, do.Note)]


@pytest.fixture(name="events")
def events_fixture() -> Any:
    return events


def only(commands: Commands, kind: type) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


@pytest.fixture(name="only")
def only_fixture() -> Any:
    return only
