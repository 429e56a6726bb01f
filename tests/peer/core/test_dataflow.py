"""Which task comes when: 1F1B for chains, the same rule for any DAG."""

from __future__ import annotations

import pytest

from peer.core import commands as do
from peer.core import events as ev
from peer.core.phases import Mode

ONE_F_ONE_B = {
    ("two", 0, 2): "F0 F1 B0 F2 B1 F3 B2 B3 M U",
    ("two", 1, 1): "F0 B0 F1 B1 F2 B2 F3 B3 M U",
    ("chain", 0, 3): "F0 F1 F2 B0 F3 B1 B2 B3 M U",
    ("chain", 1, 2): "F0 F1 B0 F2 B1 F3 B2 B3 M U",
    ("chain", 2, 1): "F0 B0 F1 B1 F2 B2 F3 B3 M U",
}
"""(topology, segment, in flight) -> one step of four microbatches, Narayanan et al. figure 4."""


@pytest.mark.parametrize(("case", "expected"), ONE_F_ONE_B.items(), ids=str)
def test_one_forward_one_backward(rig, case: tuple[str, int, int], expected: str):
    """The neighbours are as fast as they can be: gradients come one task after their turn."""
    topology, segment, in_flight = case
    peer = rig(topology, segment, in_flight=in_flight)
    peer.run()
    edges = {tensor.edge for tensor in peer.segments[segment].incoming}
    answers = {tensor.edge for tensor in peer.segments[segment].outgoing}
    for edge in edges:
        for microbatch in range(4):
            peer.tensor("activation", edge, microbatch)
    tasks, answered = [], 0
    while peer.busy:
        tasks.append(peer.busy)
        peer.done()
        flying = peer.lease.run.forwarded
        if answers and answered < flying and (flying - answered == in_flight or not peer.busy):
            for edge in answers:
                peer.tensor("gradient", edge, answered)
            answered += 1
        if len(tasks) == expected.count(" ") + 1:
            break
    assert " ".join(tasks) == expected


def test_backward_goes_before_forward(rig):
    peer = rig("chain", 1, in_flight=4)
    peer.run()
    for microbatch in range(3):
        peer.tensor("activation", 0, microbatch)
    peer.done()
    peer.tensor("gradient", 1, 0)
    assert peer.busy == "F1"
    peer.done()
    assert peer.busy == "B0"


def test_microbatches_keep_their_order_whatever_comes_first(rig):
    peer = rig("chain", 1, in_flight=4)
    peer.run()
    peer.tensor("activation", 0, 1)
    assert peer.busy == ""
    peer.tensor("activation", 0, 0)
    assert peer.busy == "F0"
    peer.done()
    peer.done()
    peer.tensor("gradient", 1, 1)
    assert peer.busy == ""
    peer.tensor("gradient", 1, 0)
    assert peer.busy == "B0"


def test_no_more_than_in_flight(rig):
    peer = rig("two", 0, in_flight=2)
    peer.run()
    peer.done()
    peer.done()
    assert peer.busy == ""
    assert peer.lease.waiting.what == "gradient of 'v0_1' (edge 0, train step 0, microbatch 0)"
    peer.tensor("gradient", 0, 0)
    assert peer.busy == "B0"
    peer.done()
    assert peer.busy == "F2"


def test_a_skip_connection_needs_both_inputs(rig):
    """`skip`: edges 0 -> 1 (0), 1 -> 2 (1), 0 -> 2 (2)."""
    last = rig("skip", 2)
    last.run()
    last.tensor("activation", 2, 0)
    last.tensor("activation", 2, 1)
    assert last.busy == ""
    assert last.lease.waiting.segment == 1
    last.tensor("activation", 1, 0)
    assert last.busy == "F0"


def test_a_skip_connection_needs_both_gradients(rig):
    first = rig("skip", 0, in_flight=1)
    first.run()
    first.done()
    first.tensor("gradient", 0, 0)
    assert first.lease.waiting.segment == 2
    first.tensor("gradient", 2, 0)
    assert first.busy == "B0"


def test_evaluation_is_forward_only_and_acknowledged(rig, bodies):
    last = rig("two", 1, evaluate_every=1, evaluation_microbatches=2, microbatches=1)
    last.run()
    reports = []
    for microbatch in range(2):
        last.tensor("activation", 0, microbatch, mode=Mode.EVALUATE)
        assert last.busy == f"E{microbatch}"
        commands = last.done(loss=1.0 + microbatch)
        (acknowledge,) = [c for c in commands if isinstance(c, do.SendAcknowledge)]
        assert (acknowledge.edge, acknowledge.mode) == (0, Mode.EVALUATE)
        assert acknowledge.microbatch == microbatch
        reports += bodies(commands)
    assert reports == [do.EvaluationBody(step=0, loss=1.5)]
    assert last.lease.run.phase.mode is Mode.TRAIN


def test_the_producer_waits_for_acknowledgements(rig):
    first = rig("two", 0, in_flight=1, evaluate_every=1, evaluation_microbatches=2)
    first.run()
    assert first.busy == "E0"
    first.done()
    assert first.busy == ""
    assert first.lease.waiting.what.startswith("acknowledge of 'v0_1'")
    first.tensor("acknowledge", 0, 0, mode=Mode.EVALUATE)
    assert first.busy == "E1"
    first.done()
    first.tensor("acknowledge", 0, 1, mode=Mode.EVALUATE)
    assert first.busy == "F0"


def test_an_edge_without_gradient_is_acknowledged_in_training(rig):
    """`roots`: edge 1 is 1 -> 2 without gradient."""
    second = rig("roots", 2, in_flight=1)
    second.run()
    second.tensor("activation", 1, 0)
    commands = second.done()
    assert [(c.edge, c.mode) for c in commands if isinstance(c, do.SendAcknowledge)] == [
        (1, Mode.TRAIN)]


def test_tied_weights_home(rig):
    """`tied`: edge 2 is the parameter w0, home 0, used by 2."""
    home = rig("tied", 0, microbatches=1)
    home.run()
    home.done()
    home.tensor("gradient", 0)
    home.done()
    assert home.busy == ""
    assert home.lease.waiting.what == "parameter_gradient of 'w0' (edge 2, train step 0)"
    home.tensor("parameter_gradient", 2)
    assert home.busy == "M"
    home.done()
    assert home.busy == "U"
    home.done()
    assert home.busy == "F0", "the home has its own parameter"


def test_tied_weights_user(rig):
    user = rig("tied", 2, microbatches=1)
    user.run()
    assert user.tensor("activation", 1)
    tasks = []
    while user.busy:
        tasks.append(user.busy)
        user.done()
    assert " ".join(tasks) == "F0 B0 C M U"
    user.tensor("activation", 1, step=1)
    assert user.busy == ""
    assert user.lease.waiting.what == "parameter of 'w0' (edge 2, train step 1)"
    user.tensor("parameter", 2, step=1)
    assert user.busy == "F0"


def test_a_frozen_parameter_may_come_early(rig):
    """Its home waits for nobody: each segment between the two can be a step ahead of the next."""
    user = rig("frozen", 3)
    user.run()
    for step in (1, 2, 3):
        assert not user.tensor("parameter", 3, step=step)
    assert user.taken == [1, 2, 3]


HOSTILE = [
    ("gradient", 99, 0, 0, "train"),  # no such edge
    ("activation", 0, 0, 0, "train"),  # edge 0 is outgoing
    ("gradient", 1, 0, 0, "train"),  # edge 1 is incoming of another
    ("parameter", 0, 0, 1, "train"),  # edge 0 is no parameter
    ("gradient", 0, 4, 0, "train"),  # there are four
    ("gradient", 0, -1, 0, "train"),
    ("gradient", 0, 0, 3, "train"),  # there are three steps
    ("gradient", 0, 0, 0, "evaluate"),  # evaluation gives no gradients
    ("acknowledge", 0, 0, 0, "train"),  # a gradient is due
    ("parameter_gradient", 2, 1, 0, "train"),
    ("parameter_gradient", 2, 0, 3, "train"),
    ("parameter_gradient", 2, 0, 0, "evaluate"),
]


@pytest.mark.parametrize(("kind", "edge", "microbatch", "step", "mode"), HOSTILE)
def test_hostile_answers_fail_the_lease(rig, bodies, kind, edge, microbatch, step, mode):
    home = rig("tied", 0, in_flight=2, steps=3)
    home.run()
    home.done()
    commands = home.tensor(kind, edge, microbatch, step, Mode(mode))
    (failed,) = bodies(commands)
    assert failed.code == "INVALID_ARGUMENT"
    assert f"edge {edge}" in failed.message
    assert home.lease.phase == "closing"


@pytest.mark.parametrize(("kind", "edge", "microbatch", "step", "mode"), [
    ("activation", 1, 4, 0, "train"),
    ("activation", 1, 0, 3, "train"),
    ("activation", 1, 0, 0, "evaluate"),  # there is no evaluation
    ("activation", 1, 2**62, 2**62, "train"),
    ("parameter", 2, 0, 0, "train"),  # that of step 0 came with the blobs
    ("parameter", 2, 0, 4, "train"),
    ("parameter", 2, 0, 1, "evaluate"),
])
def test_hostile_inputs_fail_the_lease(rig, bodies, kind, edge, microbatch, step, mode):
    user = rig("tied", 2)
    user.run()
    (failed,) = bodies(user.tensor(kind, edge, microbatch, step, Mode(mode)))
    assert f"edge {edge}" in failed.message
    assert failed.blamed_peer == f"peer_{1 if kind == 'activation' else 0}"


def test_a_tensor_that_waits_for_its_task_is_dropped_when_it_comes_again(rig):
    user = rig("tied", 2)
    user.run()
    user.tensor("activation", 1, 1)
    assert not user.tensor("activation", 1, 1)
    assert (user.taken, user.dropped) == ([1], [2])


def test_a_tensor_that_was_used_is_dropped_when_it_comes_again(rig):
    """It would wait for ever, and so would thousands more."""
    user = rig("tied", 2)
    user.run()
    user.tensor("activation", 1, 0)
    user.tensor("activation", 1, 0)
    user.done()
    assert not user.tensor("activation", 1, 0)
    assert (user.taken, user.dropped) == ([1], [2, 3])


def test_an_answer_may_overtake_the_end_of_its_forward(rig):
    first = rig("two", 0, in_flight=1)
    first.run()
    first.tensor("gradient", 0, 0)
    assert first.busy == "F0"
    first.done()
    assert first.busy == "B0"


def test_activations_of_the_next_phase_may_come(rig):
    last = rig("two", 1, evaluate_every=1, evaluation_microbatches=1, microbatches=2)
    last.run()
    last.tensor("activation", 0, 0, mode=Mode.EVALUATE)
    last.tensor("activation", 0, 1, mode=Mode.TRAIN)
    assert last.taken == [1, 2]


def test_the_end_forgets_parameters_that_no_forward_will_use(rig):
    user = rig("tied", 2, steps=1, microbatches=1)
    user.run()
    user.tensor("activation", 1)
    for _ in range(4):
        user.done()
    user.tensor("parameter", 2, step=1)
    user.done()
    assert user.lease.phase == "storing"
    assert not user.lease.run.arrived


def test_the_loss_of_a_step_is_the_exact_mean(rig, bodies):
    peer = rig("one", microbatches=3)
    peer.run()
    losses = [1e16, 1.0, -1e16]
    reports = []
    while not reports:
        forward = peer.busy.startswith("F")
        reports = bodies(peer.done(loss=losses.pop(0) if forward else None))
    assert reports == [do.StepsBody(first_step=0, count=1, losses=(1.0 / 3,))]


def test_the_task_that_finished_must_be_the_one_that_ran(rig):
    peer = rig("one", microbatches=4)
    peer.run()
    other = ev.Task(kind=ev.TaskKind.FORWARD, mode=Mode.TRAIN, step=0, microbatch=1)
    assert not peer.on(ev.TaskFinished, task=other, loss=1.0)
    assert peer.lease.run.forwarded == 0
    assert peer.busy == "F0"


def tasks_of(peer, count: int) -> str:
    """Let the executor finish `count` tasks; every backward leaves weight gradients for later."""
    tasks = []
    for _ in range(count):
        tasks.append(peer.busy)
        peer.done(has_deferred=peer.busy.startswith("B"))
    return " ".join(tasks)


def test_weight_gradients_follow_what_neighbours_wait_for(rig):
    peer = rig("two", 1, in_flight=1)
    peer.run()
    for microbatch in range(4):
        peer.tensor("activation", 0, microbatch)
    assert tasks_of(peer, 14) == "F0 B0 F1 B1 F2 B2 A F3 B3 A A A M U"


def test_weight_gradients_fill_the_waits(rig):
    peer = rig("two", 1, in_flight=1)
    peer.run()
    peer.tensor("activation", 0, 0)
    assert tasks_of(peer, 3) == "F0 B0 A"
    assert peer.busy == ""
    assert peer.lease.waiting.what.startswith("activation of")


def test_weight_gradients_come_in_microbatch_order(rig):
    peer = rig("two", 1, in_flight=1)
    peer.run()
    for microbatch in range(4):
        peer.tensor("activation", 0, microbatch)
    tasks = []
    while len(tasks) < 4:
        task = peer.peer.state.busy.task
        if task.kind is ev.TaskKind.ACCUMULATE:
            tasks.append(task.microbatch)
        peer.done(has_deferred=task.kind is ev.TaskKind.BACKWARD)
    assert tasks == [0, 1, 2, 3]
