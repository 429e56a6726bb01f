"""The broker core and the peer cores together, over streams that break and brokers that crash.

Both are the real ones; only the network, the executors and the planner are played.
"""

from __future__ import annotations

from functools import cache

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core.policy import Policy
from broker.core.state import TERMINAL, JobRecord, JobState, LeasePhase, free_peers
from dag.placement import Infeasible, Placement, Refusal, SegmentPlacement
from ir.graph import INFER
from sim.brokers import BACKOFF_MS, Session, SimulatedBroker
from sim.peers import Fabric, SimulatedPeer
from sim.topologies import TOPOLOGIES, inference_spec_of, segments_of, spec_of
from sim.world import SECOND, World

MOST = 200_000
SEEDS = 20
NAMES = {0: "one", 1: "chain", 2: "skip", 3: "tied", 4: "frozen", 5: "roots"}


class Network:
    """A broker, some peers, and jobs of one topology."""

    def __init__(self, seed: int, peers: int = 4, step_s: float = 0.1) -> None:
        self.step_s = step_s
        """What the planner predicts: the interval between snapshots begins with it."""
        self.world = world = World(seed, begin_ns=1_700_000_000 * SECOND)
        self.random = world.random
        self.name = NAMES[seed % len(NAMES)]
        self.broker = SimulatedBroker(world, self.plan, Policy())
        fabric = Fabric()
        self.peers = [SimulatedPeer(world, fabric, f"peer_{i}") for i in range(peers)]
        self.is_calm = False
        for peer in self.peers:
            world.soon(1_000, lambda p=peer: self.broker.dial(p))
        world.run(lambda: len(self.broker.sessions) == peers, MOST)

    def plan(self, command: do.SolvePlacement) -> ev.PlacementSolved:
        """Any free peers in any order, any number in flight."""
        count, edges = TOPOLOGIES[self.name]
        if len(command.cluster.peers) < count:
            refusal = Refusal(subject="all", rule="count", wanted=count, had=1, text="too few")
            return ev.PlacementSolved(
                at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
                answer=None, infeasible=Infeasible(refusals=(refusal,), missing_bytes=0))
        chosen = self.random.sample(command.cluster.peers, count)
        placement = Placement(algorithm="any", step_s=self.step_s, segments=tuple(
            SegmentPlacement(segment=segment, peer_id=peer.peer_id, memory_bytes=1,
                             in_flight=self.random.randint(1, 4), forward_s=0.01, backward_s=0.01)
            for segment, peer in zip(
                segments_of(count, edges, command.spec.kind), chosen, strict=True)))
        return ev.PlacementSolved(
            at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
            answer=placement, infeasible=None)

    def submit(self, submission_id: str, **changes) -> None:
        """Until the broker has answered: what a client does."""
        make = inference_spec_of if "rows" in changes else spec_of
        spec = make(TOPOLOGIES[self.name][0], **changes)

        def attempt() -> None:
            if submission_id not in self.broker.answers:
                self.broker.take(ev.JobSubmitted(
                    at_ns=0, request_id=submission_id, owner_id="client_a",
                    submission_id=submission_id, spec=spec))
                self.world.soon(1_000, attempt)

        attempt()

    def jobs(self) -> list[JobRecord]:
        return list(self.broker.core.state.jobs.values()) if self.broker.core else []

    def everybody_is_free(self) -> bool:
        return self.broker.core is not None and len(free_peers(self.broker.core.state)) == len(
            self.peers)

    def all_ended(self, count: int) -> bool:
        jobs = self.jobs()
        return len(jobs) == count and all(job.state in TERMINAL for job in jobs)

    # --- faults ----------------------------------------------------------------------------------

    def break_streams(self) -> None:
        """Now and then a stream ends; the peer is back within the grace."""
        if self.is_calm:
            return
        sessions = list(self.broker.sessions.values())
        if sessions:
            self.broker.break_stream(self.random.choice(sessions))
        self.world.soon(2_000, self.break_streams)

    def lose_acknowledgements(self) -> None:
        """A stream ends just when a report was applied."""
        def lose(session: Session) -> None:
            if not self.is_calm and self.random.random() < 0.3:
                self.broker.break_stream(session)

        self.broker.on_heard = lose

    def crash_brokers(self) -> None:
        if self.is_calm:
            return
        if self.broker.core is not None:
            self.broker.crash()
            self.world.soon(3_000, self.broker.start)
        self.world.soon(8_000, self.crash_brokers)

    def kill_peers(self) -> None:
        if self.is_calm:
            return
        self.kill(self.random.choice(self.peers))
        self.world.soon(20_000, self.kill_peers)

    def kill(self, peer: SimulatedPeer) -> None:
        session = self.broker.sessions.get(peer.peer_id)
        peer.kill()
        if session is not None:
            self.broker.break_stream(session)
        self.world.soon(BACKOFF_MS, lambda: self.broker.dial(peer))

    def cancel_something(self) -> None:
        if self.is_calm:
            return
        running = [job.job_id for job in self.jobs() if job.state not in TERMINAL]
        if running:
            self.broker.take(ev.CancelRequested(
                at_ns=0, request_id="c", job_id=self.random.choice(running), by="operator_x"))
        self.world.soon(30_000, self.cancel_something)


def check_success(job: JobRecord) -> None:
    steps = job.spec.training.steps
    assert (job.state, job.endings, job.error_message) == (JobState.SUCCEEDED, 1, "")
    assert job.steps_done == steps
    if job.spec.kind == INFER:
        assert not job.losses
        assert not job.evaluations
        return
    assert list(job.losses) == [1.0 / (1 + step) for step in range(steps)], "metrics"
    every = job.spec.training.evaluate_every
    wanted = [s for s in range(steps + 1) if s % every == 0 or s == steps] if every else []
    assert [evaluation.step for evaluation in job.evaluations] == wanted


def check_applied_once(network: Network, job: JobRecord) -> None:
    for lease in job.leases:
        peer = next(p for p in network.peers if p.peer_id == lease.peer_id)
        executor = peer.works[job.job_id, lease.index, lease.token].executor
        if job.spec.kind == INFER:
            assert sorted(executor.results) == (
                list(range(job.spec.flow)) if lease.segment.results else [])
            continue
        assert executor.steps_applied() == list(range(executor.first, job.spec.training.steps))


def check_nothing_is_held(network: Network) -> None:
    """Both sides agree that every peer is free."""
    assert network.broker.core is not None
    for peer in network.broker.core.state.peers.values():
        assert not peer.leases, f"{peer.label} is still occupied"
    held = {peer.peer_id: peer.leases() for peer in network.peers if peer.leases()}
    assert not held, f"peers hold what the broker has forgotten: {held}"


@pytest.mark.parametrize("faults", [
    (), ("break_streams",), ("lose_acknowledgements",), ("break_streams", "crash_brokers"),
    ("lose_acknowledgements", "crash_brokers")])
def test_a_job_survives_broken_streams_and_brokers(faults: tuple[str, ...]) -> None:
    for seed in range(SEEDS):
        print(f"seed {seed}, {faults}")
        network = Network(seed)
        for fault in faults:
            network.world.soon(2_000, getattr(network, fault))
        every = network.random.choice([0, 1, 3])
        if seed % 3:
            network.submit("s1", steps=12, clip_norm=network.random.choice([0.0, 1.0]),
                           evaluate_every=every)
        else:
            network.submit("s1", rows=network.random.choice([1, 75, 600]))
        assert network.world.run(lambda n=network: n.all_ended(1), MOST), "no end"
        job = network.jobs()[0]
        check_success(job)
        check_applied_once(network, job)
        settle(network)
        check_nothing_is_held(network)


def test_a_peer_may_go_once_its_segment_is_finished() -> None:
    """Others that still store their results do not need it, and must not mind its broken links."""
    killed = 0
    for seed in range(2 * SEEDS):
        print(f"seed {seed}")
        network, gone = Network(seed), set()

        def heard(session: Session, n: Network = network, gone: set = gone) -> None:
            job, peer = n.jobs()[0], session.peer
            finished = any(lease.peer_id == peer.peer_id and lease.phase is LeasePhase.FINISHED
                           for lease in job.leases)
            if finished and job.steps_done == job.spec.training.steps and peer not in gone:
                gone.add(peer)
                n.kill(peer)

        network.broker.on_heard = heard
        network.submit("s1", steps=3)
        assert network.world.run(lambda n=network: n.all_ended(1), MOST), "no end"
        check_success(network.jobs()[0])
        killed += len(gone)
    assert killed > 5


def settle(network: Network) -> None:
    """No more faults, and time for every timeout there is."""
    network.is_calm = True
    until_ns = network.world.now_ns + 300 * SECOND
    network.world.run(lambda: network.world.now_ns >= until_ns, MOST)


def test_every_job_ends_once_whatever_dies() -> None:
    """And once the faults stop, a job runs to its end on whoever is left."""
    ends: set[JobState] = set()
    for seed in range(SEEDS):
        print(f"seed {seed}")
        network = Network(seed, peers=5)
        for fault in ("break_streams", "lose_acknowledgements", "crash_brokers", "kill_peers",
                      "cancel_something"):
            network.world.soon(4_000, getattr(network, fault))
        for number in range(4):
            work = {"rows": 400} if number == 2 else {"steps": 8}
            network.world.soon(
                20_000, lambda n=network, i=number, w=work: n.submit(f"s{i}", **w))
        until_ns = network.world.now_ns + 60 * SECOND
        network.world.run(lambda n=network, u=until_ns: n.world.now_ns >= u, MOST)
        settle(network)
        assert network.all_ended(4), [(job.state, job.reason) for job in network.jobs()]
        for job in network.jobs():
            ends.add(job.state)
            assert job.endings == 1
            if job.state is JobState.SUCCEEDED:
                check_success(job)
                check_applied_once(network, job)
            else:
                assert job.error_code
                assert job.error_message
        check_nothing_is_held(network)
        assert network.everybody_is_free()
        network.submit("last", steps=3)
        assert network.world.run(lambda n=network: n.all_ended(5), MOST)
        check_success(network.jobs()[-1])
    assert ends == {JobState.SUCCEEDED, JobState.CANCELLED}, "who dies is replaced"


def outcome(network: Network) -> list[object]:
    """What every segment of the first job ended with: the lineage of its state, or its results."""
    job = network.jobs()[0]
    executors = [
        next(p for p in network.peers if p.peer_id == lease.peer_id).works[
            job.job_id, lease.index, lease.token].executor for lease in job.leases]
    return [(executor.parameters, executor.results) for executor in executors]


@cache
def undisturbed(number: int, work: tuple[tuple[str, int], ...]) -> list[object]:
    """The outcome of a job that nothing happened to; `number` stands for the topology."""
    network = Network(number)
    network.submit("s1", **dict(work))
    assert network.world.run(lambda: network.all_ended(1), MOST)
    return outcome(network)


@pytest.mark.parametrize(("seeds", "faults"), [
    (8, ("kill_peers",)),
    (2, ("kill_peers", "break_streams", "lose_acknowledgements", "crash_brokers"))])
def test_whoever_is_killed_the_same_lineage_comes_out(seeds: int, faults: tuple[str, ...]) -> None:
    """Also when others are killed during the cure, and when the broker dies meanwhile."""
    takeovers = restored = 0
    for seed in range(seeds):
        print(f"seed {seed}, {faults}")
        network = Network(seed, peers=5, step_s=2.0)
        for fault in faults:
            network.world.soon(2_000, getattr(network, fault))
        network.world.after(60 * SECOND, lambda n=network: setattr(n, "is_calm", True))
        work = {"rows": 300} if seed % 4 == 3 else {
            "steps": 20, "evaluate_every": 5, "clip_norm": float(seed % 2)}
        network.submit("s1", **work)
        assert network.world.run(lambda n=network: n.all_ended(1), MOST), "no end"
        job = network.jobs()[0]
        check_success(job)
        check_applied_once(network, job)
        assert outcome(network) == undisturbed(seed % len(NAMES), tuple(work.items()))
        takeovers += job.takeovers
        restored += sum(work.executor.first > 0 for p in network.peers for work in p.works.values())
        settle(network)
        check_nothing_is_held(network)
    assert min(takeovers, restored) >= seeds // 2, (takeovers, restored)
