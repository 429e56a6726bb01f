"""Planning in a real child process."""

import asyncio
from dataclasses import replace

import pytest

from broker.core.commands import RankBackups, ReplanJob, SolvePlacement
from broker.core.events import BackupsRanked, JobReplanned, PlacementSolved, PlanningFailed
from broker.planner_process import solve_apart
from dag.cluster import Cluster, PeerRates, PeerResources
from dag.job import ColumnRef, JobSpec, OptimizerSpec, ParameterRef, TrainingSpec
from dag.support import everything
from ir import serde
from ir.graph import Graph, Node, TensorType

WIDE, WEIGHT = TensorType("float32", (2, 4)), TensorType("float32", (4, 4))
GRAPH = Graph(
    opset=23, inputs=("x",), parameters=("w",), outputs=("loss",), constants={},
    nodes=(Node(0, "m", "MatMul", ("x", "w"), ("m",)),
           Node(1, "loss", "ReduceMean", ("m",), ("loss",), {"keepdims": 0})),
    types={"x": WIDE, "w": WEIGHT, "m": WIDE, "loss": TensorType("float32", ())})


def command(graph_bytes, memory_bytes=1 << 30):
    spec = JobSpec(
        name="t", graph_digest="0" * 64, graph_bytes=graph_bytes,
        parameters=(ParameterRef(name="w", aliases=(), digest="1" * 64, blob_bytes=1, type=WEIGHT,
                                 trainable=True),),
        columns=(ColumnRef(name="x", split="train", digest="2" * 64, blob_bytes=1,
                           type=TensorType("float32", (8, 4))),),
        training=TrainingSpec(steps=1, batch_size=4, microbatches=2, seed=0,
                              optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1)))
    rates = PeerRates(
        matmul_flops_per_s=1e9, attention_flops_per_s=1e9, memory_bytes_per_s=1e9)
    peers = (PeerResources(peer_id="peer_a", memory_bytes=memory_bytes, rates=rates),)
    return SolvePlacement(
        job_id="job_000001", spec=spec, cluster=Cluster(peers=peers, links=()), cluster_version=7)


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "graph"
    path.write_bytes(serde.dump(GRAPH))
    return path


def test_a_job_is_placed(graph):
    answer = asyncio.run(solve_apart(command(graph.stat().st_size), graph))
    assert isinstance(answer, PlacementSolved), answer
    assert (answer.job_id, answer.cluster_version) == ("job_000001", 7)
    assert [s.peer_id for s in answer.answer.segments] == ["peer_a"]


def test_a_job_that_fits_nowhere_is_said_so(graph):
    answer = asyncio.run(solve_apart(command(graph.stat().st_size, memory_bytes=10), graph))
    assert isinstance(answer, PlacementSolved)
    assert answer.infeasible is not None


def test_a_graph_that_is_none_fails_the_job(graph):
    graph.write_bytes(b"\xff" * 1_000)
    answer = asyncio.run(solve_apart(command(1_000), graph))
    assert isinstance(answer, PlanningFailed)
    assert answer.code == "INVALID_GRAPH"


def test_a_graph_that_is_missing_fails_the_job(tmp_path):
    answer = asyncio.run(solve_apart(command(1), tmp_path / "none"))
    assert isinstance(answer, PlanningFailed)


def test_planning_that_takes_too_long_is_given_up(graph):
    answer = asyncio.run(solve_apart(command(graph.stat().st_size), graph, timeout_s=0.001))
    assert isinstance(answer, PlanningFailed)
    assert answer.code == "TIMED_OUT"


def ranking(graph_bytes, segments=()):
    planned = command(graph_bytes)
    lesser = replace(
        planned.cluster.peers[0], peer_id="peer_b",
        support=everything(("MatMul",), range(23, 24)))
    return RankBackups(
        job_id="job_000001", spec=planned.spec, segments=segments, cluster_version=8,
        cluster=Cluster(peers=(*planned.cluster.peers, lesser), links=()))


def test_backups_are_ranked(graph):
    size = graph.stat().st_size
    plan = asyncio.run(solve_apart(command(size), graph)).answer
    answer = asyncio.run(solve_apart(ranking(size, plan.segments), graph))
    assert isinstance(answer, BackupsRanked), answer
    assert (answer.job_id, answer.cluster_version) == ("job_000001", 8)
    (((peer_id, seconds),),) = answer.ranking
    assert peer_id == "peer_a"
    assert seconds == pytest.approx(plan.segments[0].forward_s + plan.segments[0].backward_s)


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(b"\xff" * 1_000), lambda path: path.unlink()])
def test_a_ranking_that_fails_is_answered_all_the_same(graph, spoil):
    spoil(graph)
    answer = asyncio.run(solve_apart(ranking(1_000), graph))
    assert answer == BackupsRanked(at_ns=0, job_id="job_000001", cluster_version=8, ranking=())


def test_a_ranking_that_takes_too_long_is_answered_all_the_same(graph):
    answer = asyncio.run(solve_apart(ranking(graph.stat().st_size), graph, timeout_s=0.001))
    assert isinstance(answer, BackupsRanked)
    assert answer.ranking == ()


def replanning(graph_bytes, segments=()):
    asked = ranking(graph_bytes, segments)
    return ReplanJob(
        job_id=asked.job_id, spec=asked.spec, segments=segments, cluster_version=8,
        cluster=Cluster(peers=asked.cluster.peers[:1], links=()))


def test_a_running_job_is_planned_anew(graph):
    size = graph.stat().st_size
    plan = asyncio.run(solve_apart(command(size), graph)).answer
    answer = asyncio.run(solve_apart(replanning(size, plan.segments), graph))
    assert isinstance(answer, JobReplanned), answer
    assert (answer.job_id, answer.cluster_version, answer.problem) == ("job_000001", 8, "")
    # The same peer: the same plan, and nothing to move.
    assert answer.answer.segments == plan.segments
    assert (answer.stay_s, answer.move_s) == (plan.step_s, 0.0)


@pytest.mark.parametrize("timeout_s", [0.001, 60.0])
def test_planning_anew_that_fails_is_answered_all_the_same(graph, timeout_s):
    graph.write_bytes(b"\xff" * 1_000)
    answer = asyncio.run(solve_apart(replanning(1_000), graph, timeout_s=timeout_s))
    assert isinstance(answer, JobReplanned)
    assert answer.answer is None
    assert answer.problem


def test_a_cancelled_call_leaves_no_process(graph):
    import psutil

    async def scenario():
        task = asyncio.create_task(solve_apart(command(graph.stat().st_size), graph))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()

    asyncio.run(scenario())
    left = [c for c in psutil.Process().children() if "broker.planner_process" in c.cmdline()]
    assert left == []
