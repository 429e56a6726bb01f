"""A segment of an inference job in the peer's core."""

from __future__ import annotations

import pytest

from peer.core import commands as do
from peer.core import events as ev
from peer.core.machine import INFERENCE_REPORTS
from peer.core.phases import Mode, Phase, PhaseOrder
from peer.core.state import LeasePhase
from sim.topologies import TOPOLOGIES, inference_spec_of, segments_of


@pytest.fixture
def infer(rig):
    """A running segment over `rows` rows, two at a time."""

    def make(topology, segment, rows, **options):
        peer = rig(topology, segment, **options)
        peer.spec = inference_spec_of(peer.count, rows=rows)
        peer.segments = segments_of(*TOPOLOGIES[topology], "infer")
        return peer, peer.run()

    return make


def reports(commands, kind):
    return [c.body for c in commands if isinstance(c, do.SendReport) and isinstance(c.body, kind)]


def test_one_phase_over_all_rows():
    order = PhaseOrder.of(inference_spec_of(2, rows=7))
    assert order.at(0) == Phase(Mode.INFER, 0, 4)
    assert order.after(order.at(0)) is None


def test_a_segment_alone_runs_forwards_only_and_stores(infer):
    peer, commands = infer("one", 0, 5)
    for microbatch in range(3):
        (task,) = [c.task for c in commands if isinstance(c, do.RunTask)]
        assert (task.kind, task.mode, task.microbatch) == (
            ev.TaskKind.FORWARD, Mode.INFER, microbatch)
        commands = peer.done()
        (steps,) = reports(commands, do.StepsBody)
        assert (steps.first_step, steps.count, steps.losses) == (microbatch, 1, ())
    assert [c for c in commands if isinstance(c, do.StoreResult)]
    assert peer.lease.phase is LeasePhase.STORING


def test_acknowledgements_bound_what_is_in_flight(infer):
    peer, commands = infer("two", 0, 20, in_flight=2)
    assert [c for c in commands if isinstance(c, do.RunTask)]
    assert [c for c in peer.done() if isinstance(c, do.RunTask)]
    assert not [c for c in peer.done() if isinstance(c, do.RunTask)], "two are in flight"
    assert peer.lease.waiting.segment == 1
    commands = peer.tensor("acknowledge", 0, 0, mode=Mode.INFER)
    assert [c.task.microbatch for c in commands if isinstance(c, do.RunTask)] == [2]


@pytest.mark.parametrize(("kind", "mode", "step"), [
    ("gradient", Mode.INFER, 0), ("gradient", Mode.TRAIN, 0), ("acknowledge", Mode.EVALUATE, 0),
    ("acknowledge", Mode.INFER, 1)])
def test_what_no_neighbour_of_an_inference_sends_is_refused(infer, kind, mode, step):
    peer, _ = infer("two", 0, 20)
    (failed,) = reports(peer.tensor(kind, 0, 0, step, mode), do.FailedBody)
    assert failed.blamed_peer == "peer_1"


def test_a_shared_parameter_is_never_sent_again(infer):
    peer, _ = infer("tied", 2, 20)
    (shared,) = [t for t in peer.segments[2].incoming if t.kind == "parameter"]
    assert reports(peer.tensor("parameter", shared.edge, 0, 1, Mode.TRAIN), do.FailedBody)


def test_many_microbatches_are_told_in_few_reports(infer):
    microbatches = 10 * INFERENCE_REPORTS + 7
    peer, _ = infer("one", 0, 2 * microbatches)
    told = []
    for _ in range(microbatches):
        told += reports(peer.done(), do.StepsBody)
    assert sum(body.count for body in told) == microbatches
    assert [body.first_step for body in told] == [10 * i for i in range(len(told))]
    assert len(told) == INFERENCE_REPORTS + 1
