"""Plans of inference jobs: forward only, in time and in memory."""

from dataclasses import replace

import pytest

from dag.cost import TASK_OVERHEAD_S
from dag.job import PREDICT, ColumnRef, inference_spec
from dag.placement import Placement
from dag.planner import plan
from dag.predict import estimate, predict
from dag.verify import verify
from ir.cut import cut
from ir.graph import INFER, TensorType

KIB = 1 << 10


def to_infer(problem, rows):
    """The same model over so many rows, its output the last activation."""
    size, width = problem.graph.types["x"].shape
    last = problem.graph.nodes[-1].inputs[0]
    graph = replace(problem.graph, nodes=problem.graph.nodes[:-1], outputs=(last,))
    column = ColumnRef(name="x", split=PREDICT, digest="0" * 64, blob_bytes=1,
                       type=TensorType("float32", (rows, width)))
    job = replace(problem.job, kind=INFER, columns=(column,), training=inference_spec(rows, size))
    return replace(problem, graph=graph, job=job)


@pytest.fixture
def known(world):
    # Two layers of 512 x 512 weights: 1 MiB each; 128 rows: 256 KiB per activation.
    graph = world.chain([512, 512, 512], rows=128)
    problem = world.problem(graph, world.cluster(world.peer(0), world.peer(1)))
    return estimate(to_infer(problem, 10 * 128 - 1))


def test_there_is_no_backward_and_no_state(known):
    assert known.problem.job.flow == 10
    assert known.problem.job.samples == 10 * 128 - 1
    assert not known.seconds["peer_0"][1].any()
    (segment,) = cut(known.costs.graph, [range(4)], frozenset(), INFER)
    peers = known.problem.cluster.peers
    prediction = predict(known, [segment], peers[:1])
    (placed,) = prediction.segments
    assert placed.backward_s == 0.0
    assert prediction.step_s == pytest.approx(placed.forward_s + TASK_OVERHEAD_S)
    # Two weights; the column of a microbatch; two activations alive at once.
    assert placed.memory_bytes == 2 * 1024 * KIB + 256 * KIB + 2 * 256 * KIB


def test_two_segments_flow_at_the_pace_of_the_slower(known):
    segments = cut(known.costs.graph, [[0, 1], [2, 3]], frozenset(), INFER)
    prediction = predict(known, segments, known.problem.cluster.peers)
    assert [segment.in_flight for segment in prediction.segments] == [3, 1]
    slower = max(segment.forward_s for segment in prediction.segments)
    assert slower < prediction.step_s < 1.2 * slower


def test_what_is_alive_at_once_is_counted(world):
    """A value that the end reads again lives on meanwhile."""
    graph = world.chain([512, 512, 512], rows=128, skip=True)
    problem = to_infer(world.problem(graph, world.cluster(world.peer(0))), 128)
    activation = 256 * KIB
    # MatMul, Relu (kept for the Add), MatMul, Relu, Add.
    assert estimate(problem).costs.workspace == tuple(
        count * activation for count in (1, 2, 2, 3, 3))


@pytest.mark.parametrize("seed", range(12))
def test_plans_of_random_problems_are_sound_and_fit_where_training_does(world, seed):
    training = world.random(seed)
    problem = to_infer(training, 1_000)
    answer = plan(problem)
    if isinstance(plan(training), Placement):
        assert isinstance(answer, Placement)
    if isinstance(answer, Placement):
        assert verify(answer, problem) == ()
        assert not any(placed.segment.has_loss for placed in answer.segments)
        assert [r.name for placed in answer.segments for r in placed.segment.results] == [
            *problem.graph.outputs]
        assert all(placed.backward_s == 0.0 for placed in answer.segments)
