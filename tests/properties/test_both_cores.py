"""The broker core and the peer cores together, over streams that break and brokers that crash.

Both are the real ones; only the network, the executors and the planner are played.
"""

from __future__ import annotations

import pytest

from broker.core.state import JobState, LeasePhase
from sim.brokers import Session
from sim.network import (
    MOST,
    NAMES,
    Network,
    check_applied_once,
    check_nothing_is_held,
    check_success,
    outcome,
    settle,
    undisturbed,
)
from sim.world import SECOND

SEEDS = 20


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
