"""The broker core under thousands of plausible and hostile events, from a seed.

Run this file with a seed and a number of events to repeat a failure: it prints the hash of all
commands and the digest of the state.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from hashlib import blake2b
from math import inf, nan
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core import commands as do
from broker.core import events as ev
from broker.core import invariants
from broker.core.admission import problem_with
from broker.core.digest import state_digest
from broker.core.machine import Broker
from broker.core.policy import Policy
from broker.core.state import TERMINAL, JobState
from dag.cluster import Link, PeerRates
from dag.job import ColumnRef, JobSpec, OptimizerSpec, ParameterRef, TrainingSpec
from dag.placement import Infeasible, Placement, Refusal, SegmentPlacement
from ir.graph import TensorType
from ir.segment import Segment

MS = 1_000_000
EVENTS = 10_000
PEERS = [f"peer_{letter}" for letter in "abcdefg"]
OWNERS = ["client_a", "client_b"]
RATES = PeerRates(matmul_flops_per_s=1e12, attention_flops_per_s=1e12, memory_bytes_per_s=1e11)
HARDWARE = ev.PeerHardware(device="cpu", device_name="CPU", memory_bytes=1 << 33, rates=RATES,
                           executor="null", platform="linux", threads=1)
F32 = TensorType("float32", (8, 2))


def make_spec(steps: int = 4, peers: int = 0, batch: int = 8) -> JobSpec:
    parameters = tuple(
        ParameterRef(name=f"w{i}", aliases=(), digest=f"{i:064x}", blob_bytes=100, type=F32,
                     trainable=True)
        for i in range(len(PEERS)))
    column = ColumnRef(name="x", split="train", digest="f" * 64, blob_bytes=100, type=F32)
    training = TrainingSpec(steps=steps, batch_size=batch, microbatches=4, seed=0,
                            optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1))
    return JobSpec(name="j", graph_digest="e" * 64, graph_bytes=10, parameters=parameters,
                   columns=(column,), training=training, peers=peers)


def make_placement(peers: list[str]) -> Placement:
    return Placement(algorithm="any", step_s=1.0, segments=tuple(
        SegmentPlacement(
            segment=Segment(index=i, nodes=(i,), parameters=(f"w{i}",), data_inputs=(),
                            incoming=(), outgoing=(), has_loss=i == len(peers) - 1),
            peer_id=peer, in_flight=1, memory_bytes=1, forward_s=0.1, backward_s=0.1)
        for i, peer in enumerate(peers)))


class Chaos:
    """Peers, planner, submitters and operators that mostly behave, around a real core."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.broker = Broker()
        self.now_ns = 1_000_000 * MS
        self.count = 0
        self.numbers = dict.fromkeys(PEERS, 0)
        self.held: dict[str, dict[int, dict[str, Any]]] = {peer: {} for peer in PEERS}
        self.sessions: dict[str, str] = {}
        self.pending: list[ev.AnyEvent] = []
        self.journal: list[ev.AnyEvent] = []
        self.hash = blake2b(digest_size=16)
        self.ended: dict[str, JobState] = {}
        self.granted: dict[int, tuple[str, int, str]] = {}
        self.take(ev.BrokerStarted(at_ns=self.now_ns, policy=Policy()))

    def run(self, events: int) -> Chaos:
        while self.count < events:
            self.now_ns += self.random.choice([0, 1, 10, 50, 200]) * MS
            if self.random.random() < 0.003:
                self.now_ns += self.random.choice([1_000, 6_000, 20_000, 700_000]) * MS
            wakeup = self.broker.next_wakeup_ns()
            if wakeup is not None and wakeup <= self.now_ns and self.random.random() < 0.8:
                self.take(self.broker.timer(self.now_ns))
            self.take(self.next_event())
        return self

    def take(self, event: ev.AnyEvent) -> None:
        self.count += 1
        if ev.is_journalled(event):
            self.journal.append(event)
        commands = self.broker.apply(event)
        self.hash.update(repr(commands).encode())
        for command in commands:
            self.obey(command)
        self.check()

    def check(self) -> None:
        """I1 to I4, here from outside and over time as well."""
        invariants.check(self.broker.state)
        for job_id, state in self.ended.items():
            assert self.broker.state.jobs[job_id].state is state, "I1: a job ended twice"
        for job in self.broker.state.jobs.values():
            if job.state in TERMINAL:
                self.ended[job.job_id] = job.state

    # --- the world's side of the commands --------------------------------------------------------

    def obey(self, command: do.AnyCommand) -> None:
        match command:
            case do.SolvePlacement():
                self.pending.append(self.answer(command))
            case do.AssignSegment():
                self.load(command)
            case do.StartJob():
                lease = self.held[command.peer_id].get(command.token)
                if lease and lease["phase"] == "ready":
                    lease["phase"] = "running"
            case do.RevokeSegment():
                self.held[command.peer_id].pop(command.token, None)
                self.pending.append(self.report(
                    ev.SegmentReleased, command.peer_id, command.job_id, command.segment,
                    command.token))
            case do.DisconnectPeer():
                if self.sessions.get(command.peer_id) == command.session_id:
                    del self.sessions[command.peer_id]
                self.pending.append(ev.PeerDisconnected(
                    at_ns=0, peer_id=command.peer_id, session_id=command.session_id))
            case _:
                pass

    def load(self, command: do.AssignSegment) -> None:
        key = (command.job_id, command.segment.index, command.peer_id)
        known = self.granted.get(command.token)
        assert known == key or (known is None and command.token > max(self.granted, default=0)), (
            "I2: a token was granted twice or shrank")
        self.granted[command.token] = key
        if command.peer_id in self.sessions:
            self.held[command.peer_id].setdefault(command.token, {
                "job": command.job_id, "segment": command.segment, "phase": "loading",
                "steps": 0, "total": command.spec.training.steps})

    def answer(self, command: do.SolvePlacement) -> ev.AnyEvent:
        free = [peer.peer_id for peer in command.cluster.peers]
        wanted = command.spec.peers or self.random.randint(1, 3)
        dice = self.random.random()
        if dice < 0.03:
            return ev.PlanningFailed(at_ns=0, job_id=command.job_id, code="INVALID_GRAPH",
                                     message="bad")
        if wanted > len(free) or dice < 0.1:
            refusal = Refusal(subject="all", rule="memory", wanted=2, had=1, text="too small")
            return ev.PlacementSolved(
                at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
                answer=None, infeasible=Infeasible(refusals=(refusal,), missing_bytes=1))
        return ev.PlacementSolved(
            at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
            answer=make_placement(self.random.sample(free, wanted)), infeasible=None)

    # --- what happens next -----------------------------------------------------------------------

    def next_event(self) -> ev.AnyEvent:
        if self.pending and self.random.random() < 0.4:
            event = self.pending.pop(self.random.randrange(len(self.pending)))
            if self.random.random() < 0.05:
                self.pending.append(event)
            return self.stamped(event)
        makers = [self.work, self.heartbeats, self.connect, self.submit, self.hostile]
        maker = self.random.choices(makers, weights=[50, 25, 6, 5, 14])[0]
        return self.stamped(maker())

    def stamped(self, event: ev.AnyEvent) -> ev.AnyEvent:
        values = {name: getattr(event, name) for name in type(event).__dataclass_fields__}
        return type(event)(**{**values, "at_ns": self.now_ns})

    def report(self, kind: type, peer: str, job: str, segment: int, token: int, **more: Any) -> Any:
        self.numbers[peer] += 1
        return kind(at_ns=0, peer_id=peer, number=self.numbers[peer], job_id=job, segment=segment,
                    token=token, **more)

    def work(self) -> ev.AnyEvent:
        """One peer does the next thing of one lease."""
        leases = [(peer, token) for peer in PEERS if peer in self.sessions
                  for token in self.held[peer]]
        if not leases:
            return self.connect()
        peer, token = self.random.choice(leases)
        lease = self.held[peer][token]
        segment = lease["segment"]
        at = (peer, lease["job"], segment.index, token)
        if self.random.random() < 0.004:
            del self.held[peer][token]
            return self.report(ev.SegmentFailed, *at, code="STALLED", message="m", blamed_peer="")
        if lease["phase"] == "loading":
            lease["phase"] = "ready"
            return self.report(ev.SegmentReady, *at)
        if lease["phase"] != "running":
            return self.heartbeats()
        first, total = lease["steps"], lease["total"]
        if first == total:
            del self.held[peer][token]
            return self.report(ev.SegmentFinished, *at, result_digest=f"{token:064x}",
                               result_bytes=10)
        if segment.has_loss and self.random.random() < 0.1:
            return self.report(ev.EvaluationDone, *at, step=first, loss=1.0)
        count = self.random.randint(1, total - first)
        lease["steps"] += count
        loss = nan if self.random.random() < 0.01 else 0.5
        return self.report(ev.StepsDone, *at, first_step=first, count=count,
                           losses=(loss,) * count if segment.has_loss else ())

    def heartbeats(self) -> ev.AnyEvent:
        quiet = self.random.choice([*PEERS, "", "", ""])
        return ev.HeartbeatsSeen(at_ns=0, peer_ids=tuple(p for p in self.sessions if p != quiet))

    def connect(self) -> ev.AnyEvent:
        """A peer connects, or its stream ends, or its process restarts."""
        peer = self.random.choice(PEERS)
        if peer in self.sessions and self.random.random() < 0.5:
            return ev.PeerDisconnected(at_ns=0, peer_id=peer, session_id=self.sessions.pop(peer))
        if self.random.random() < 0.2:
            self.held[peer].clear()
        self.sessions[peer] = f"s{self.count}"
        leases = [ev.HeldLease(job_id=lease["job"], segment=lease["segment"].index, token=token,
                               phase=lease["phase"])
                  for token, lease in self.held[peer].items()]
        if self.random.random() < 0.1:
            leases.append(ev.HeldLease(job_id="job_000001", segment=0, token=1, phase="running"))
        return ev.PeerConnected(
            at_ns=0, peer_id=peer, session_id=self.sessions[peer], name=peer, leases=tuple(leases),
            software_version="1", tensor_address="host:1", hardware=HARDWARE)

    def submit(self) -> ev.AnyEvent:
        spec = make_spec(steps=self.random.randint(1, 6), peers=self.random.choice([0, 0, 1, 2, 9]),
                         batch=self.random.choice([8, 8, 8, 7]))
        return ev.JobSubmitted(at_ns=0, request_id="r", owner_id=self.random.choice(OWNERS),
                               submission_id=f"x{self.random.randrange(300)}", spec=spec)

    def hostile(self) -> ev.AnyEvent:
        """Something that a well-behaved world would not do, or not now."""
        r = self.random
        number = r.choice([0, 1, 2, 3, r.randrange(60), 10**12, -1])
        some = r.choice([self.broker.state.jobs, self.broker.state.unfinished])
        job = r.choice([*some, "job_999999", ""])
        peer = r.choice([*PEERS, "peer_x", ""])
        head = {"at_ns": 0, "peer_id": peer, "number": self.numbers.get(peer, 0) + r.choice([0, 1]),
                "job_id": job, "segment": r.choice([0, 1, -1]), "token": number}
        if peer in self.numbers:
            self.numbers[peer] = max(self.numbers[peer], head["number"])
        choices: list[ev.AnyEvent] = [
            ev.SegmentReady(**head),
            ev.StepsDone(**head, first_step=number, count=number, losses=(inf,)),
            ev.EvaluationDone(**head, step=number, loss=nan),
            ev.SegmentFailed(**head, code="?", message="x" * 5000, blamed_peer=peer),
            ev.SegmentFinished(**head, result_digest="zz", result_bytes=number),
            ev.SegmentReleased(**head),
            ev.CancelRequested(at_ns=0, request_id="r", job_id=job,
                               by=r.choice([*OWNERS, "operator_x", "peer_a", ""])),
            ev.PeerDisconnected(at_ns=0, peer_id=peer, session_id=r.choice(["", "s1"])),
            ev.HeartbeatsSeen(at_ns=0, peer_ids=(peer, "peer_x")),
            ev.LinkMeasured(at_ns=0, link=Link(
                source=peer, target=r.choice(PEERS), latency_s=r.choice([0.1, nan, -1.0]),
                bandwidth_bytes_per_s=r.choice([1e8, 0.0, inf]))),
            ev.TransfersMeasured(at_ns=0, source=peer, target=r.choice([*PEERS, "peer_x"]),
                                 bandwidth_bytes_per_s=r.choice([1e8, 1e9, nan, -1.0])),
            ev.PlacementSolved(at_ns=0, job_id=job, cluster_version=number, infeasible=None,
                               answer=r.choice([None, make_placement([peer, "peer_a"])])),
            ev.PlanningFailed(at_ns=0, job_id=r.choice(["job_999999", ""]), code="", message=""),
            ev.TimerFired(at_ns=0, silent_peers=r.choice([(), ("peer_x",), (peer,)])),
            ev.KeyCreated(at_ns=0, request_id="r", key_id=f"key_{number}", secret_hash="h" * 64,
                          role=r.choice(["peer", "submitter", "god"]), reusable=r.random() < 0.5,
                          expires_at_ns=self.now_ns + number * MS),
            ev.KeyRevoked(at_ns=0, request_id="r", key_id=f"key_{number}"),
            ev.EnrolmentRequested(at_ns=0, request_id="r", key_id=f"key_{number}", name="n",
                                  secret_hash=r.choice(["h" * 64, ""]),
                                  new_id=f"n{r.random()}"[3:]),
        ]
        if r.random() < 0.02:
            self.sessions.clear()
            return ev.BrokerStarted(at_ns=0, policy=Policy())
        return r.choice(choices)


def replayed(journal: list[ev.AnyEvent]) -> Broker:
    broker = Broker()
    for event in journal:
        broker.apply(event)
    return broker


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_invariants_hold_and_the_journal_tells_everything(seed: int) -> None:
    print(f"seed {seed}, {EVENTS} events")
    chaos = Chaos(seed).run(EVENTS)
    states = {job.state for job in chaos.broker.state.jobs.values()}
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED} <= states, states
    assert state_digest(replayed(chaos.journal)) == state_digest(chaos.broker)


def test_commands_do_not_depend_on_the_hash_seed() -> None:
    printed = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, __file__, "7", "3000"], capture_output=True, text=True, timeout=120,
            check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
        printed.add(done.stdout)
    assert len(printed) == 1, printed


def test_seeds_differ() -> None:
    assert Chaos(1).run(300).hash.digest() != Chaos(2).run(300).hash.digest()


def test_a_job_ends_well_once_the_faults_stop() -> None:
    """I13: after the last fault, whoever is left makes progress."""
    for seed in range(5):
        print(f"seed {seed}")
        chaos = Chaos(seed).run(2_000)
        for job_id in list(chaos.broker.state.unfinished):
            chaos.take(chaos.stamped(ev.CancelRequested(
                at_ns=0, request_id="r", job_id=job_id, by="operator_x")))
        chaos.held = {peer: {} for peer in PEERS}
        for peer in PEERS:
            chaos.sessions.pop(peer, None)
            while peer not in chaos.sessions:
                chaos.take(ev.PeerConnected(
                    at_ns=chaos.now_ns, peer_id=peer, session_id=f"calm-{peer}", name=peer,
                    leases=(), software_version="1", tensor_address="host:1", hardware=HARDWARE))
                chaos.sessions[peer] = f"calm-{peer}"
        chaos.pending.clear()
        chaos.take(ev.JobSubmitted(at_ns=chaos.now_ns, request_id="r", owner_id="client_z",
                                   submission_id="last", spec=make_spec(steps=2, peers=7)))
        (job,) = chaos.broker.state.unfinished.values()
        assert job.state is JobState.PLANNING, job.reason
        chaos.take(chaos.stamped(ev.PlacementSolved(
            at_ns=0, job_id=job.job_id, cluster_version=job.considered_version,
            answer=make_placement(PEERS), infeasible=None)))
        for kind, more in (
            (ev.SegmentReady, {}),
            (ev.StepsDone, {"first_step": 0, "count": 2}),
            (ev.SegmentFinished, {"result_digest": "0" * 64, "result_bytes": 1}),
        ):
            for lease in list(job.leases):
                at = (lease.peer_id, job.job_id, lease.index, lease.token)
                chaos.numbers[lease.peer_id] = chaos.broker.state.peers[lease.peer_id].last_report
                losses = {"losses": (1.0, 1.0) if lease.segment.has_loss else ()}
                extra = {**more, **(losses if kind is ev.StepsDone else {})}
                chaos.take(chaos.stamped(chaos.report(kind, *at, **extra)))
        assert job.state is JobState.SUCCEEDED, job.error_message


TEXT = st.text(max_size=20)
INTEGER = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats()
TENSOR = st.builds(TensorType, dtype=st.sampled_from(["float32", "int64", "zz", ""]),
                   shape=st.lists(INTEGER, max_size=4).map(tuple))
SPEC = st.builds(
    JobSpec, name=TEXT, graph_digest=TEXT, graph_bytes=INTEGER, peers=INTEGER,
    parameters=st.lists(st.builds(
        ParameterRef, name=TEXT, aliases=st.lists(TEXT, max_size=2).map(tuple), digest=TEXT,
        blob_bytes=INTEGER, type=TENSOR, trainable=st.booleans()), max_size=3).map(tuple),
    columns=st.lists(st.builds(
        ColumnRef, name=TEXT, split=st.sampled_from(["train", "validation", "x"]), digest=TEXT,
        blob_bytes=INTEGER, type=TENSOR), max_size=3).map(tuple),
    training=st.builds(
        TrainingSpec, steps=INTEGER, batch_size=INTEGER, microbatches=INTEGER, seed=INTEGER,
        clip_norm=FLOAT, precision=TEXT, evaluate_every=INTEGER,
        optimizer=st.builds(OptimizerSpec, kind=TEXT, learning_rate=FLOAT, beta1=FLOAT,
                            beta2=FLOAT, epsilon=FLOAT)))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=SPEC)
def test_any_description_gets_an_answer(spec: JobSpec) -> None:
    problem = problem_with(spec)
    assert problem is not None, "random digests are never valid"
    assert 0 < len(problem[1]) < 1_000


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), events=st.integers(1, 120))
def test_short_histories_replay_exactly(seed: int, events: int) -> None:
    chaos = Chaos(seed).run(events)
    assert state_digest(replayed(chaos.journal)) == state_digest(chaos.broker)


if __name__ == "__main__":
    result = Chaos(int(sys.argv[1])).run(int(sys.argv[2]))
    print(result.hash.hexdigest(), state_digest(result.broker))
