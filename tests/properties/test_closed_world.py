"""Real peer cores on a random network in virtual time: every job ends as it should.

The broker is played by a few lines here; tests/properties/test_both_cores.py has the real one.
"""

from __future__ import annotations

import pytest

from ir.graph import INFER, TRAIN
from peer.core import commands as do
from peer.core import events as ev
from peer.core.machine import INFERENCE_REPORTS
from peer.core.phases import Mode, PhaseOrder
from peer.core.state import LeasePhase
from sim.peers import Fabric, SimulatedPeer
from sim.topologies import TOPOLOGIES, inference_spec_of, segments_of, spec_of
from sim.world import Line, World

SEEDS = 200
MOST = 60_000
JOB = "job_000001"


class Rehearsal:
    """One job on its peers, and a broker that only assigns, starts and acknowledges."""

    def __init__(self, seed: int, name: str, kind: str = TRAIN) -> None:
        self.world = world = World(seed)
        random = world.random
        self.count, edges = TOPOLOGIES[name]
        self.segments = segments_of(self.count, edges, kind)
        self.spec = spec_of(
            self.count, steps=random.randint(1, 5), microbatches=random.randint(1, 6),
            evaluate_every=random.choice([0, 0, 1, 2]),
            evaluation_microbatches=random.randint(1, 4), clip_norm=random.choice([0.0, 1.0]))
        if kind == INFER:
            self.spec = inference_spec_of(self.count, rows=random.choice([1, 2, 7, 30, 250]))
        self.in_flight = [random.randint(1, 4) for _ in self.segments]
        self.fabric = Fabric()
        self.peers = [SimulatedPeer(world, self.fabric, f"peer_{i}") for i in range(self.count)]
        self.lines = [Line(world, 50) for _ in self.peers]
        self.reports: list[dict[int, do.SendReport]] = [{} for _ in self.peers]
        self.members = tuple(
            ev.Member(segment=i, peer_id=peer.peer_id, token=i + 1, tensor_address="here:1")
            for i, peer in enumerate(self.peers))
        for i, peer in enumerate(self.peers):
            peer.on_report = lambda report, i=i: self.lines[i].send(lambda: self.heard(i, report))
            world.soon(100, lambda i=i: self.assign(i))

    def assign(self, i: int) -> None:
        self.peers[i].take(ev.BrokerConnected, last_report=0)
        self.peers[i].take(
            ev.AssignmentReceived, job_id=JOB, token=i + 1, spec=self.spec,
            segment=self.segments[i], in_flight=self.in_flight[i], segments=self.count,
            stall_timeout_ms=120_000)
        self.world.soon(2_000, lambda: self.interrupt(i))

    def interrupt(self, i: int) -> None:
        """The stream of a peer ends, and comes back later."""
        self.lines[i].is_cut = True
        self.peers[i].take(ev.BrokerDisconnected)
        self.world.soon(1_500, lambda: self.resume(i))

    def resume(self, i: int) -> None:
        self.lines[i] = Line(self.world, 50)
        self.peers[i].take(ev.BrokerConnected, last_report=max(self.reports[i], default=0))

    def heard(self, i: int, report: do.SendReport) -> None:
        """A report arrives, the next one: those that a break swallowed are sent again."""
        assert report.number == len(self.reports[i]) + 1, "a report is missing"
        self.reports[i][report.number] = report
        if self.world.random.random() < 0.7:
            through = report.number
            self.world.soon(50, lambda: self.peers[i].take(
                ev.ReportsAcknowledged, through_number=through))
        everybody = [r for reports in self.reports for r in reports.values()]
        if isinstance(report.body, do.ReadyBody) and self.count == sum(
            isinstance(r.body, do.ReadyBody) for r in everybody
        ):
            for j in range(self.count):
                self.world.soon(200, lambda j=j: self.peers[j].take(
                    ev.StartReceived, job_id=JOB, segment=j, token=j + 1, members=self.members))

    def bodies(self, i: int, kind: type) -> list:
        reports = sorted(self.reports[i].items())
        return [report.body for _, report in reports if isinstance(report.body, kind)]

    def is_over(self) -> bool:
        return all(self.bodies(i, do.FinishedBody | do.FailedBody) for i in range(self.count))


def check_outcome(job: Rehearsal) -> None:
    training = job.spec.training
    order = PhaseOrder.of(job.spec)
    phases, phase = [], order.at(0)
    while phase is not None:
        phases.append(phase)
        phase = order.after(phase)
    forwards = [(p.mode, p.step, m) for p in phases for m in range(p.microbatches)]
    for i, peer in enumerate(job.peers):
        assert not job.bodies(i, do.FailedBody), job.bodies(i, do.FailedBody)
        executor = peer.works[JOB, i, i + 1].executor
        assert executor.steps_applied() == list(range(training.steps))
        done = {kind: [(t.mode, t.step, t.microbatch) for t in executor.done if t.kind is kind]
                for kind in ev.TaskKind}
        assert done[ev.TaskKind.FORWARD] == forwards
        assert done[ev.TaskKind.BACKWARD] == [f for f in forwards if f[0] is Mode.TRAIN]
        assert executor.most_in_flight <= job.in_flight[i]
        left = {key for key in executor.arrived if key[0] is not ev.TensorKind.PARAMETER}
        assert not left, "tensors were sent that nobody used"
        steps = job.bodies(i, do.StepsBody)
        assert [s for body in steps for s in range(body.first_step, body.first_step + body.count)
                ] == list(range(training.steps))
        has_loss = executor.segment.has_loss
        assert sum(len(body.losses) for body in steps) == (training.steps if has_loss else 0)
        evaluated = [p.step for p in phases if p.mode is Mode.EVALUATE] if has_loss else []
        assert [body.step for body in job.bodies(i, do.EvaluationBody)] == evaluated
        assert len(job.bodies(i, do.FinishedBody)) == 1


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_job_ends_with_every_step_applied_once_and_in_order(name: str) -> None:
    for seed in range(SEEDS // len(TOPOLOGIES)):
        print(f"topology {name}, seed {seed}")
        job = Rehearsal(seed, name)
        assert job.world.run(job.is_over, MOST), "deadlock: nothing is left to happen, or no end"
        check_outcome(job)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_row_is_inferred_once_and_in_order(name: str) -> None:
    for seed in range(SEEDS // len(TOPOLOGIES)):
        print(f"topology {name}, seed {seed}")
        job = Rehearsal(seed, name, INFER)
        assert job.world.run(job.is_over, MOST), "deadlock: nothing is left to happen, or no end"
        microbatches = list(range(job.spec.flow))
        for i, peer in enumerate(job.peers):
            assert not job.bodies(i, do.FailedBody), job.bodies(i, do.FailedBody)
            executor = peer.works[JOB, i, i + 1].executor
            assert [(t.kind, t.mode, t.microbatch) for t in executor.done] == [
                (ev.TaskKind.FORWARD, Mode.INFER, m) for m in microbatches]
            assert list(executor.results) == (microbatches if executor.segment.results else [])
            assert not executor.arrived, "tensors were sent that nobody used"
            steps = job.bodies(i, do.StepsBody)
            assert [s for body in steps
                    for s in range(body.first_step, body.first_step + body.count)] == microbatches
            assert len(steps) <= 2 * INFERENCE_REPORTS
            assert not any(body.losses for body in steps)
            assert len(job.bodies(i, do.FinishedBody)) == 1


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_everything_is_unloaded_once_the_broker_says_so(name: str) -> None:
    """That it knows of the finish is not enough: others may need what was sent to them."""
    for seed in range(5):
        print(f"topology {name}, seed {seed}")
        job = Rehearsal(seed, name)
        assert job.world.run(job.is_over, MOST)
        job.world.run(lambda: False, MOST)
        for i, peer in enumerate(job.peers):
            assert all(lease.phase is LeasePhase.FINISHED
                       for lease in peer.core.state.leases.values())
            peer.take(ev.BrokerDisconnected)
            peer.take(ev.BrokerConnected, last_report=max(job.reports[i]))
        job.world.run(lambda: False, MOST)
        for i, peer in enumerate(job.peers):
            assert peer.core.state.leases
            peer.take(ev.RevokeReceived, job_id=JOB, segment=i, token=i + 1, reason="over")
        job.world.run(lambda: False, MOST)
        assert not any(peer.core.state.leases for peer in job.peers)


def test_a_seed_repeats_its_history() -> None:
    def history(seed: int) -> list[str]:
        job, lines = Rehearsal(seed, "tied"), []
        for peer in job.peers:
            peer.on_command = lambda c, p=peer: lines.append(f"{job.world.now_ns} {p.peer_id} {c}")
        job.world.run(job.is_over, MOST)
        return lines

    assert history(3) == history(3) != history(4)
