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


def make_placement(peers: list[str], tied: bool = False) -> Placement:
    """One segment per peer in a chain. `tied`: the last segment shares w0 with the first."""
    last = len(peers) - 1
    shared = BoundaryTensor(edge=0, value="w0", kind=BoundaryKind.PARAMETER, source=0, target=last,
                            type=F32, differentiable=True, consumers=(9,))
    segments = tuple(
        SegmentPlacement(
            segment=Segment(
                index=i, nodes=(i,), parameters=(f"w{i}",),
                data_inputs=("x",) * (i == 0) + ("y",) * (i == last),
                incoming=(shared,) if tied and i == last else (),
                outgoing=(shared,) if tied and i == 0 else (),
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

    def prepared(self, *peers: str, spec: JobSpec | None = None) -> str:
        """A job whose segments are assigned to `peers`, connected here if they are not."""
        for peer in peers:
            if peer not in self.broker.state.peers:
                self.connect(peer)
        self.submit(spec)
        job = list(self.broker.state.jobs)[-1]
        self.solve(job, list(peers))
        return job

    def running(self, *peers: str, spec: JobSpec | None = None) -> str:
        job = self.prepared(*peers, spec=spec)
        for segment in range(len(peers)):
            self.report(ev.SegmentReady, job, segment)
        return job

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


def only(commands: Commands, kind: type) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


@pytest.fixture(name="only")
def only_fixture() -> Any:
    return only
