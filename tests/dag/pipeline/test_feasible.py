"""Executors that run only a part of a graph: what is placed where, and what is said of the rest."""

from dataclasses import replace
from itertools import combinations, pairwise, permutations
from random import Random

import numpy as np
import pytest

from dag.job import inference_spec
from dag.pipeline.blocks import coarsen
from dag.pipeline.feasible import NAMED_NODES, Feasibility, covering_order
from dag.placement import Infeasible, Placement
from dag.planner import plan
from dag.predict import estimate, predict
from dag.support import (
    ANY,
    FIRST_RELEASE,
    DtypeSet,
    ExecutorSupport,
    everything,
    grouped,
)
from dag.verify import verify
from ir.cut import cut, replicable
from ir.graph import INFER, TRAIN, Graph, Node, TensorType

CHAIN_OPS = ("MatMul", "Relu", "Tanh", "Gelu")
FREE_OPS = ("Cos", "Sin")


def support_of(*operators, trainable=True, opsets=range(23, 24), **slots):
    """An executor of some operators; `slots` limits single ones to (inputs, outputs)."""
    return ExecutorSupport(
        trainable=trainable, opset_min=opsets[0], opset_max=opsets[-1],
        operators=grouped({**dict.fromkeys(operators, ANY), **slots}))


def mixed_graph(draw):
    """A chain of operators over a parameter, some with a replicable operand computed from data."""
    types = {name: TensorType("float32", (64, 64)) for name in ("x", "w0", "v0")}
    nodes, weights = [Node(0, "v0", "MatMul", ("x", "w0"), ("v0",))], ["w0"]

    def add(op_type, inputs):
        name = f"v{len(nodes)}"
        nodes.append(Node(len(nodes), name, op_type, inputs, (name,)))
        types[name] = types["x"]
        return name

    value = "v0"
    for _ in range(draw.randint(2, 5)):
        if draw.random() < 0.4:
            value = add("Mul", (value, add(draw.choice(FREE_OPS), ("x",))))
        else:
            op_type = draw.choice(CHAIN_OPS)
            if op_type == "MatMul":
                weights.append(f"w{len(weights)}")
                types[weights[-1]] = types["x"]
            value = add(op_type, (value, weights[-1]) if op_type == "MatMul" else (value,))
    loss = add("ReduceMean", (value,))
    types[loss] = TensorType("float32", ())
    return Graph(
        opset=23, nodes=tuple(nodes), inputs=("x",), parameters=tuple(weights), outputs=(loss,),
        constants={}, types=types)


def random_support(draw):
    """Often everything, often a part, seldom something that cannot train or read the opset."""
    chosen = [op for op in (*CHAIN_OPS, *FREE_OPS, "Mul", "ReduceMean") if draw.random() < 0.75]
    doubles = {op: ((DtypeSet(dtypes=("float64",)),),) * 2 for op in chosen if draw.random() < 0.1}
    return draw.choice([
        None, everything((*CHAIN_OPS, *FREE_OPS, "Mul", "ReduceMean"), range(23, 27)),
        support_of(*chosen, **doubles), support_of(*chosen, **doubles), support_of(*chosen),
        support_of(*chosen, trainable=draw.random() < 0.7),
        support_of(*chosen, opsets=draw.choice([range(23, 25), range(24, 27)]))])


def mixed_problem(world, seed, peers):
    draw = Random(seed)
    members = [
        replace(world.peer(i, draw.choice([0.5, 1.0, 3.0])), support=random_support(draw),
                executor=f"kind{i}")
        for i in range(peers)]
    return world.problem(
        mixed_graph(draw), world.cluster(*members), microbatches=draw.choice([1, 4]),
        peers=draw.choice([0, 0, 0, 2, 3]))


def runs(graph, node, support):
    """The rule once more, written as the declaration reads."""
    if support is None:
        return True
    if not support.trainable or not support.opset_min <= graph.opset <= support.opset_max:
        return False
    for entry in support.operators:
        if node.op_type in entry.operators:
            taken = zip([*node.inputs, *node.outputs],
                        [*([entry.inputs[0]] * len(node.inputs)), entry.outputs[0]], strict=True)
            return all(graph.types[name].dtype in slot.dtypes for name, slot in taken)
    return False


def placements(problem):
    """Every contiguous split over every ordered choice of peers whose executors can run it."""
    graph, known = problem.graph, estimate(problem)
    order = [node.index for node in graph.nodes if node.index not in replicable(graph)]
    wanted = problem.job.peers
    for count in range(1, min(len(problem.cluster.peers), len(order)) + 1):
        if wanted not in (0, count):
            continue
        for places in combinations(range(1, len(order)), count - 1):
            parts = [order[a:b] for a, b in pairwise((0, *places, len(order)))]
            segments = cut(graph, parts, problem.job.trainable, problem.job.kind)
            for peers in permutations(problem.cluster.peers, count):
                if all(runs(graph, graph.nodes[i], peer.support)
                       for segment, peer in zip(segments, peers, strict=True)
                       for i in segment.nodes):
                    yield predict(known, segments, peers).step_s


@pytest.mark.parametrize("seed", range(150))
def test_planner_finds_what_the_exhaustive_search_finds(world, seed):
    problem = mixed_problem(world, seed, peers=Random(seed).randint(1, 4))
    found, answer = list(placements(problem)), plan(problem)
    if not found:
        assert isinstance(answer, Infeasible), seed
        assert answer.refusals, seed
        assert all(refusal.text for refusal in answer.refusals), seed
        return
    assert isinstance(answer, Placement), (seed, answer)
    assert any(answer.step_s == pytest.approx(step_s) for step_s in found), seed
    supports = {peer.peer_id: peer.support for peer in problem.cluster.peers}
    for placed in answer.segments:
        for index in placed.segment.nodes:
            node = problem.graph.nodes[index]
            assert runs(problem.graph, node, supports[placed.peer_id]), (seed, node.name)


def test_seeds_hold_both_answers(world):
    """The property above would be empty if all problems were of one sort."""
    answers = [bool(next(placements(mixed_problem(world, seed, Random(seed).randint(1, 4))), None))
               for seed in range(150)]
    assert 30 <= sum(answers) <= 120


@pytest.mark.parametrize("seed", range(20))
def test_many_peers_that_need_an_order(world, seed):
    """Each peer runs one stretch of the graph, and nobody another: only one order works."""
    draw = Random(seed)
    kinds = [*CHAIN_OPS, "Exp", "Log", "Neg"]
    graph = world.chain([4] * 2)
    types = {**graph.types}
    nodes = [graph.nodes[0]]
    for number, op_type in enumerate(kind for kind in kinds[1:] for _ in range(2)):
        name = f"n{number}"
        nodes.append(Node(len(nodes), name, op_type, (nodes[-1].outputs[0],), (name,)))
        types[name] = types["m0"]
    graph = replace(graph, nodes=tuple(nodes), outputs=(nodes[-1].outputs[0],), types=types)
    supports = [support_of(kind) for kind in kinds]
    draw.shuffle(supports)
    peers = [replace(world.peer(i, draw.choice([1.0, 2.0])), support=support)
             for i, support in enumerate(supports)]
    problem = world.problem(graph, world.cluster(*peers))
    answer = plan(problem)
    assert isinstance(answer, Placement), seed
    assert len(answer.segments) == len(kinds)
    assert verify(answer, problem) == ()


def two_kinds(world, lesser, **job):
    problem = world.uniform(peers=(1.0, 1.0), microbatches=8, **job)
    peers = (replace(problem.cluster.peers[0], executor="torch", support=FIRST_RELEASE),
             replace(problem.cluster.peers[1], executor="lesser", support=lesser))
    return replace(problem, cluster=replace(problem.cluster, peers=peers))


@pytest.mark.parametrize(("lesser", "rule", "text"), [
    (support_of("Relu", trainable=False), "trainable", "does not train"),
    (support_of("Add"), "operator", "does not run MatMul"),
    (support_of("MatMul", "Relu", "ReduceMean", opsets=range(24, 27)), "opset", "24 to 26"),
    (support_of(MatMul=((DtypeSet(dtypes=("float64",)),),) * 2), "dtype", "float32 as input 0"),
])
def test_an_idle_peer_is_told_what_its_executor_lacks(world, lesser, rule, text):
    answer = plan(two_kinds(world, lesser))
    (reason,) = answer.idle
    assert (reason.subject, reason.rule, reason.node) == ("peer_1", rule, "m0")
    assert text in reason.text
    assert "lesser" in reason.text


def test_a_peer_that_does_not_train_runs_inference(world):
    problem = two_kinds(world, replace(FIRST_RELEASE, trainable=False), width=64)
    job = replace(problem.job, kind=INFER, training=inference_spec(rows=640, batch_size=64))
    assert [r.rule for r in plan(problem).idle] == ["trainable"]
    problem = replace(problem, job=replace(job, peers=2))
    answer = plan(problem)
    assert {placed.peer_id for placed in answer.segments} == {"peer_0", "peer_1"}
    assert verify(answer, problem) == ()
    steps = replace(job.training, batch_size=640, microbatches=10)
    training = replace(problem, job=replace(problem.job, kind=TRAIN, training=steps))
    assert "trainable" in {refusal.rule for refusal in verify(answer, training)}


def test_a_peer_runs_the_part_that_it_can(world):
    problem = two_kinds(world, support_of("MatMul", "Relu"))
    answer = plan(problem)
    where = {node: placed.peer_id for placed in answer.segments for node in placed.segment.nodes}
    assert where[len(problem.graph.nodes) - 1] == "peer_0"  # ReduceMean
    assert set(where.values()) == {"peer_0", "peer_1"}


def test_a_node_that_nobody_runs_is_named(world):
    problem = two_kinds(world, support_of("MatMul", "Relu"))
    peers = (replace(problem.cluster.peers[0], support=support_of("MatMul", "ReduceMean")),
             replace(problem.cluster.peers[1], support=support_of("MatMul", "ReduceMean")))
    answer = plan(replace(problem, cluster=replace(problem.cluster, peers=peers)))
    assert isinstance(answer, Infeasible)
    assert [(r.subject, r.rule, r.node) for r in answer.refusals] == [
        ("test", "operator", f"r{layer}") for layer in range(8)]
    assert "torch does not run Relu; lesser does not run Relu" in answer.refusals[0].text
    assert "peer run --executor torch" in answer.refusals[0].text


def test_named_nodes_are_bounded(world):
    problem = world.problem(world.chain([4] * 200), world.cluster(
        replace(world.peer(0), support=support_of())))
    assert len(plan(problem).refusals) == NAMED_NODES


def test_a_replicable_node_counts_where_it_is_needed(world):
    graph = mixed_graph(Random(0))
    types = {**graph.types}
    nodes = (
        Node(0, "free", "Cos", ("x",), ("v0",)), Node(1, "first", "MatMul", ("x", "w0"), ("v1",)),
        Node(2, "second", "Mul", ("v1", "v0"), ("v2",)),
        Node(3, "loss", "ReduceMean", ("v2",), ("v3",)))
    types.update({"v1": types["x"], "v2": types["x"], "v3": TensorType("float32", ())})
    graph = replace(graph, nodes=nodes, parameters=("w0",), outputs=("v3",), types=types)
    blind = support_of("MatMul", "Mul", "ReduceMean")
    problem = world.problem(graph, world.cluster(
        replace(world.peer(0), support=blind), replace(world.peer(1, 0.1), support=None)), peers=2)
    answer = plan(problem)
    # Without Cos it may hold the product, but not the node that reads the cosine.
    assert [p.segment.nodes for p in answer.segments if p.peer_id == "peer_0"] in ([(1,)], [(3,)])
    refusals = verify(replace(answer, segments=tuple(
        replace(placed, peer_id="peer_1" if placed.peer_id == "peer_0" else "peer_0")
        for placed in answer.segments)), problem)
    assert {(r.subject, r.rule) for r in refusals} == {("peer_0", "operator")}


def test_more_peers_wanted_than_can_help(world):
    problem = two_kinds(world, support_of("Relu", trainable=False))
    answer = plan(replace(problem, job=replace(problem.job, peers=2)))
    assert isinstance(answer, Infeasible)
    assert [refusal.rule for refusal in answer.refusals] == ["count", "trainable"]


def test_coarsening_cuts_where_other_peers_can_go_on(world):
    graph = world.chain([8] * 601)
    nodes = tuple(replace(node, op_type="Tanh") if node.name == "r300" else node
                  for node in graph.nodes)
    problem = world.problem(replace(graph, nodes=nodes), world.cluster(
        replace(world.peer(0), support=support_of("MatMul", "Relu", "ReduceMean")),
        replace(world.peer(1, 0.1), support=support_of("Tanh")),
        replace(world.peer(2), support=support_of("MatMul", "Relu", "ReduceMean"))))
    feasible, known = Feasibility(problem), estimate(problem)
    assert {nodes[index].name for index in feasible.changes()} == {"r300", "m301"}
    blocks = coarsen(known.costs, known.seconds["peer_0"], known.training,
                     breaks=feasible.changes())
    assert (601,) in blocks.nodes
    answer = plan(problem)
    assert [p.peer_id for p in answer.segments] in (
        ["peer_0", "peer_1", "peer_2"], ["peer_2", "peer_1", "peer_0"])


@pytest.mark.parametrize("seed", range(100))
def test_covering_order_is_the_shortest(seed):
    draw = Random(seed)
    blocks = draw.randint(1, 6)
    tables = [np.array([draw.random() < 0.6 for _ in range(blocks)]) for _ in range(4)]
    shortest = None
    for count in range(1, 5):
        for peers in permutations(range(4), count):
            reached = 0
            for peer in peers:
                while reached < blocks and tables[peer][reached]:
                    reached += 1
            if reached == blocks:
                shortest = count
                break
        if shortest:
            break
    answer = covering_order(tables)
    assert (None if answer is None else len(answer)) == shortest, seed
