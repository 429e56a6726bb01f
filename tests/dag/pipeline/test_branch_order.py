"""Graphs whose branches are written in turns are planned branch by branch where that pays."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from dag.cost import graph_costs
from dag.job import OptimizerSpec, TrainingSpec
from dag.pipeline.blocks import coarsen
from dag.pipeline.branch_order import branch_order
from dag.pipeline.offers import BY_BRANCH
from dag.placement import Infeasible
from dag.planner import plan
from dag.predict import estimate
from dag.verify import verify
from ir.cut import cut, replicable
from ir.graph import Graph, Node, TensorType
from tests.dag.pipeline.test_search import fleet, random_graph

BRANCHES, LAYERS = 4, 6
TRAINING = TrainingSpec(steps=1, batch_size=2, microbatches=1, seed=0,
                        optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1))


def branches(in_turns):
    """Branches of matrix products over the same data, and the mean of their sum."""
    row, square = TensorType("float32", (64, 256)), TensorType("float32", (256, 256))
    places = [(branch, layer) for layer in range(LAYERS) for branch in range(BRANCHES)]
    if not in_turns:
        places.sort()
    types, nodes = {"x": row, "loss": TensorType("float32", ())}, []
    for branch, layer in places:
        name, weight = f"b{branch}_{layer}", f"w{branch}_{layer}"
        before = f"b{branch}_{layer - 1}" if layer else "x"
        nodes.append(Node(len(nodes), name, "MatMul", (before, weight), (name,)))
        types.update({name: row, weight: square})
    total = f"b0_{LAYERS - 1}"
    for branch in range(1, BRANCHES):
        name = f"sum{branch}"
        nodes.append(Node(
            len(nodes), name, "Add", (total, f"b{branch}_{LAYERS - 1}"), (name,)))
        types[name], total = row, name
    nodes.append(Node(len(nodes), "loss", "ReduceMean", (total,), ("loss",), {"keepdims": 0}))
    return Graph(
        opset=23, nodes=tuple(nodes), inputs=("x",),
        parameters=tuple(name for name in types if name[0] == "w"), outputs=("loss",),
        constants={}, types=types, updates={})


def order_of(graph):
    return branch_order(graph_costs(graph, frozenset(graph.parameters)))


def test_branches_in_turns_are_ordered_branch_by_branch():
    graph = branches(in_turns=True)
    names = [graph.nodes[index].name for index in order_of(graph)]
    where = [name[:2] for name in names if name[0] == "b"]
    assert where == sorted(where)
    assert names.index("sum1") < names.index("b2_0")  # what is complete is added at once


def test_branches_one_after_the_other_with_their_sums_at_the_end():
    graph = branches(in_turns=False)
    order = order_of(graph)
    # By index three ends wait for the sums.
    assert order is None or [graph.nodes[i].name for i in order].index("sum1") < 2 * LAYERS + 1


def test_a_chain_has_one_order(world):
    assert order_of(world.chain([8] * 9)) is None


@pytest.mark.parametrize("seed", range(40))
def test_orders_are_topological_and_all_cuts_along_them_are_cuts(world, seed):
    draw = Random(seed)
    graph = random_graph(draw)
    problem = world.problem(graph, world.cluster(world.peer(0)))
    known, order = estimate(problem), order_of(graph)
    if order is None:
        return
    assert sorted(order) == sorted(set(range(len(graph.nodes))) - replicable(graph)), seed
    blocks = coarsen(known.costs, known.seconds["peer_0"], known.training, order=order)
    count = len(blocks.nodes)
    for place in range(1, count):
        parts = [blocks.part(0, place), blocks.part(place, count)]
        assert len(cut(graph, parts, problem.job.trainable)) == 2, seed


def test_random_graphs_have_both_answers():
    answers = [order_of(random_graph(Random(seed))) is None for seed in range(40)]
    assert 5 <= sum(answers) <= 35


def test_no_cut_parts_an_updated_buffer_from_its_update():
    graph = replace(branches(in_turns=True), updates={"w0_1": "b0_4"})
    costs, order = graph_costs(graph, frozenset(graph.parameters)), order_of(graph)
    blocks = coarsen(costs, np.ones((2, len(graph.nodes))), TRAINING, order=order).nodes
    named = [[graph.nodes[index].name for index in block] for block in blocks]
    assert ["b0_1", "b0_2", "b0_3", "b0_4"] in named


def in_turns(world, speeds):
    peers = [world.peer(n, speed) for n, speed in enumerate(speeds)]
    return world.problem(
        branches(in_turns=True), world.cluster(*peers, latency_s=1e-3, bandwidth=4e6),
        microbatches=16)


def test_branches_in_turns_over_slow_lines(world):
    problem = in_turns(world, (1.0, 1.0, 1.0, 2.0, 2.0, 3.0))
    answer = plan(problem)
    assert verify(answer, problem) == ()
    assert answer.algorithm == BY_BRANCH
    assert answer.candidates[0].step_s == answer.step_s
    assert all(candidate.reason for candidate in answer.candidates[1:])
    assert answer.step_s < 0.85 * min(c.step_s for c in answer.candidates[1:] if c.step_s)


def test_a_mapping_with_a_branch_on_each_peer_is_as_good(world):
    problem = in_turns(world, (1.0,) * BRANCHES)
    answer = plan(problem)
    assert len(answer.segments) == BRANCHES
    assert answer.algorithm in ("heft", "m-etf", "m-sct", "m-topo")
    (other,) = [c for c in answer.candidates if c.algorithm == BY_BRANCH]
    assert other.reason == "as fast with no fewer peers"


@pytest.mark.parametrize("seed", range(20))
def test_random_plans_are_sound_along_branches(world, seed):
    draw = Random(500 + seed)
    problem = world.problem(random_graph(draw), fleet(world, draw, 4), microbatches=8)
    answer = plan(problem)
    if isinstance(answer, Infeasible):
        return
    assert verify(answer, problem) == (), seed
    assert sum(not candidate.reason for candidate in answer.candidates) == 1, seed
