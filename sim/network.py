"""A whole simulated network: one real broker core, real peer cores, and the faults between them.

Time is virtual and all chance comes from one seed, so a failure is repeated by its seed. The
undisturbed run of the same job says what must come out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from broker.core import commands as do
from broker.core import events as ev
from broker.core.policy import Policy
from broker.core.state import TERMINAL, JobRecord, JobState, free_peers
from dag.cluster import Cluster
from dag.job import JobSpec
from dag.placement import Infeasible, Placement, Refusal, SegmentPlacement
from ir.graph import INFER
from sim.brokers import BACKOFF_MS, Session, SimulatedBroker
from sim.peers import Fabric, SimulatedPeer
from sim.topologies import TOPOLOGIES, inference_spec_of, segments_of, spec_of
from sim.world import SECOND, World

MOST = 200_000
"""Things that may happen in one run: beyond that it goes round in circles."""
NAMES = {0: "one", 1: "chain", 2: "skip", 3: "tied", 4: "frozen", 5: "roots"}


FAULTS = ("kill_peers", "break_streams", "lose_acknowledgements", "crash_brokers")
"""What happens to a disturbed network, each again and again."""


GROWING = Policy(
    growth_settle_ms=200, growth_pause_ms=1_000, growth_saved_min_ms=0, prepare_timeout_ms=60_000)
"""Of a broker that cuts jobs anew as often as it can."""


class Network:
    """A broker, some peers, and jobs of one topology.

    Args:
        seed: repeats everything.
        peers: how many.
        step_s: what the planner predicts: the interval between snapshots begins with it.
        policy: of the broker.
        grows: whether the peers of a training job are left open, so that it may be cut anew.
    """

    def __init__(
        self, seed: int, peers: int = 4, step_s: float = 0.1, policy: Policy | None = None, *,
        grows: bool = False,
    ) -> None:
        self.step_s = step_s
        self.grows = grows
        self.world = world = World(seed, begin_ns=1_700_000_000 * SECOND)
        self.random = world.random
        self.name = NAMES[seed % len(NAMES)]
        self.broker = SimulatedBroker(world, self.plan, self.replan, policy or Policy())
        self.fabric = Fabric(edges=TOPOLOGIES[self.name][1])
        self.peers = [SimulatedPeer(world, self.fabric, f"peer_{i}") for i in range(peers)]
        self.is_calm = False
        for peer in self.peers:
            world.soon(1_000, lambda p=peer: self.broker.dial(p))
        world.run(lambda: len(self.broker.sessions) == peers, MOST)

    def plan(self, command: do.SolvePlacement) -> ev.PlacementSolved:
        """Any free peers in any order, any number in flight."""
        count = max(1, command.spec.peers)
        if len(command.cluster.peers) < count:
            refusal = Refusal(subject="all", rule="count", wanted=count, had=1, text="too few")
            return ev.PlacementSolved(
                at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
                answer=None, infeasible=Infeasible(refusals=(refusal,), missing_bytes=0))
        return ev.PlacementSolved(
            at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
            answer=self._placement(command.spec, command.cluster, self.step_s), infeasible=None)

    def replan(self, command: do.ReplanJob) -> ev.JobReplanned:
        """Any other cut on any peers, which may be better or worse; sometimes there is none."""
        stays = self.random.random() < 0.1
        faster = self.random.choice([0.05, 0.3, 1.1])
        return ev.JobReplanned(
            at_ns=0, job_id=command.job_id, cluster_version=command.cluster_version,
            answer=None if stays else self._placement(
                command.spec, command.cluster, faster * self.step_s),
            stay_s=self.step_s, move_s=0.0, problem="no plan" * stays)

    def _placement(self, spec: JobSpec, cluster: Cluster, step_s: float) -> Placement:
        """As many segments as the job wants, or else any number; each on any peer."""
        count, edges = TOPOLOGIES[self.name]
        most = min(count, len(cluster.peers))
        wanted = spec.peers or max(self.random.randint(1, most), self.random.randint(1, most))
        starts = [0, *sorted(self.random.sample(range(1, count), wanted - 1))]
        chosen = self.random.sample(cluster.peers, wanted)
        return Placement(algorithm="any", step_s=step_s, segments=tuple(
            SegmentPlacement(segment=segment, peer_id=peer.peer_id, memory_bytes=1,
                             in_flight=self.random.randint(1, 4), forward_s=0.01, backward_s=0.01)
            for segment, peer in zip(
                segments_of(count, edges, spec.kind, starts), chosen, strict=True)))

    def submit(self, submission_id: str, **changes: Any) -> None:
        """Until the broker has answered: what a client does."""
        make = inference_spec_of if "rows" in changes else spec_of
        spec = make(TOPOLOGIES[self.name][0], **changes)
        if self.grows and spec.kind != INFER:
            spec = replace(spec, peers=0)

        def attempt() -> None:
            if submission_id not in self.broker.answers:
                self.broker.take(ev.JobSubmitted(
                    at_ns=0, request_id=submission_id, owner_id="client_a",
                    submission_id=submission_id, spec=spec))
                self.world.soon(1_000, attempt)

        attempt()

    def jobs(self) -> list[JobRecord]:
        """All jobs that the broker knows now."""
        return list(self.broker.core.state.jobs.values()) if self.broker.core else []

    def join(self) -> None:
        """One more peer comes."""
        peer = SimulatedPeer(self.world, self.fabric, f"peer_{len(self.peers)}")
        self.peers.append(peer)
        self.broker.dial(peer)

    def everybody_is_free(self) -> bool:
        """Whether nothing occupies any peer."""
        return self.broker.core is not None and len(free_peers(self.broker.core.state)) == len(
            self.peers)

    def all_ended(self, count: int) -> bool:
        """Whether so many jobs were taken in, and all have ended."""
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
        """Now and then the broker dies."""
        if self.is_calm:
            return
        self.crash_broker()
        self.world.soon(8_000, self.crash_brokers)

    def crash_broker(self) -> None:
        """The broker dies; it is back within seconds."""
        if self.broker.core is not None:
            self.broker.crash()
            self.world.soon(3_000, self.broker.start)

    def kill_peers(self) -> None:
        """Now and then a peer dies; another process of it comes back."""
        if self.is_calm:
            return
        self.kill(self.random.choice(self.peers))
        self.world.soon(20_000, self.kill_peers)

    def kill(self, peer: SimulatedPeer) -> None:
        """End one peer's process; what lies on its disk stays."""
        session = self.broker.sessions.get(peer.peer_id)
        peer.kill()
        if session is not None:
            self.broker.break_stream(session)
        self.world.soon(BACKOFF_MS, lambda: self.broker.dial(peer))

    def strike_after_recuts(self, seen: int = 0) -> None:
        """Mostly something happens while a new cut is put together."""
        if self.is_calm:
            return
        recuts = sum(len(job.growth.recuts) for job in self.jobs())
        if recuts > seen and self.random.random() < 0.7:
            self.world.soon(1_000, self.random.choice([
                lambda: self.kill(self.random.choice(self.peers)), self.crash_broker]))
        self.world.soon(200, lambda: self.strike_after_recuts(max(seen, recuts)))

    def come_and_go(self) -> None:
        """Now and then a peer that nobody needs is away for a while: who comes back is news."""
        if self.is_calm:
            return
        idle = [peer for peer in self.peers if not peer.leases()]
        if idle:
            self.kill(self.random.choice(idle))
        self.world.soon(3_000, self.come_and_go)

    def cancel_something(self) -> None:
        """Now and then somebody wants a job to end."""
        if self.is_calm:
            return
        running = [job.job_id for job in self.jobs() if job.state not in TERMINAL]
        if running:
            self.broker.take(ev.CancelRequested(
                at_ns=0, request_id="c", job_id=self.random.choice(running), by="operator_x"))
        self.world.soon(30_000, self.cancel_something)


def growing(seed: int) -> Network:
    """Three peers, to which others come, and a job that is cut anew for them again and again.

    Now and then a peer or the broker dies, mostly just when a cut was decided. Until `is_calm`.
    """
    network = Network(seed, peers=3, step_s=0.5, policy=GROWING, grows=True)
    for peer in network.peers:
        peer.slowness = network.random.choice([3.0, 6.0])
    for _ in range(4):
        network.world.soon(10_000, network.join)
    for fault in ("strike_after_recuts", "come_and_go", "lose_acknowledgements"):
        network.world.soon(3_000, getattr(network, fault))
    return network


def disturbed(seed: int) -> Network:
    """Five peers that keep being disturbed until `is_calm`; a snapshot every few steps."""
    network = Network(seed, peers=5, step_s=1.0)
    for fault in FAULTS:
        network.world.soon(2_000, getattr(network, fault))
    return network


def check_success(job: JobRecord) -> None:
    """A job has ended well, and each loss and evaluation is there once."""
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
    """Each holder has applied each step from its position on once, in order."""
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


def settle(network: Network) -> None:
    """No more faults, and time for every timeout there is."""
    network.is_calm = True
    until_ns = network.world.now_ns + 300 * SECOND
    network.world.run(lambda: network.world.now_ns >= until_ns, MOST)


def outcome(network: Network) -> list[object]:
    """What the first job ended with: the lineage of each parameter, and results by segment."""
    job = network.jobs()[0]
    executors = [
        next(p for p in network.peers if p.peer_id == lease.peer_id).works[
            job.job_id, lease.index, lease.token].executor for lease in job.leases]
    parameters = [item for executor in executors for item in executor.parameters.items()]
    if job.spec.kind != INFER:
        return [sorted(parameters)]
    return [sorted(parameters), *(executor.results for executor in executors)]


@cache
def undisturbed(number: int, work: tuple[tuple[str, int], ...]) -> list[object]:
    """The outcome of a job that nothing happened to; `number` stands for the topology."""
    network = Network(number)
    network.submit("s1", **dict(work))
    assert network.world.run(lambda: network.all_ended(1), MOST)
    return outcome(network)
