"""`Graph.stopped`: values through which no gradient passes back."""

from dataclasses import replace

import pytest

from homespun.errors import Code, HomespunError
from ir.check import problems
from ir.cut import cut, segment_graph
from ir.gradient import differentiable_values, gives_gradient
from ir.serde import dump, load

TRAINABLE = frozenset({"w", "u"})


@pytest.fixture
def graph(builder):
    """mean((x w) * stopped(x w) * u): the gradient reaches `w` through the first factor only."""
    b = builder
    product = b.node("Mul", b.data("x", 2), b.parameter("w", 2))
    still = b.node("Identity", product)
    scaled = b.node("Mul", b.node("Mul", product, still), b.parameter("u", 2))
    built = b.build(b.node("ReduceMean", scaled, keepdims=0))
    return replace(built, stopped=frozenset({still}))


def test_a_stopped_value_has_no_gradient_and_gives_none(graph):
    differentiable = differentiable_values(graph, TRAINABLE)
    assert differentiable == {"w", "u", "v0", "v2", "v3", "v4"}
    identity, product = graph.nodes[1], graph.nodes[2]
    assert not gives_gradient(graph, identity, "v0", differentiable)
    assert gives_gradient(graph, product, "v0", differentiable)
    assert not gives_gradient(graph, product, "v1", differentiable)


def test_what_only_a_stopped_value_reads_has_no_gradient(graph):
    all_stopped = replace(graph, stopped=frozenset({"v0", "v1"}))
    assert differentiable_values(all_stopped, TRAINABLE) == {"u", "v3", "v4"}


def test_it_survives_the_wire_and_is_absent_elsewhere(graph):
    assert problems(graph) == ()
    assert load(dump(graph)).stopped == {"v1"}
    assert b"homespun.stopped" not in dump(replace(graph, stopped=frozenset()))


@pytest.mark.parametrize("name", ["x", "w", "nothing"])
def test_only_results_of_nodes_are_stopped(graph, name):
    wrong = replace(graph, stopped=frozenset({name}))
    (problem,) = problems(wrong)
    assert "stopped gradient" in problem.message
    with pytest.raises(HomespunError, match="stopped gradient") as refused:
        load(dump(wrong))
    assert refused.value.code is Code.INVALID_GRAPH


def test_no_gradient_crosses_for_a_stopped_value(graph):
    segments = cut(graph, [[0], [1], [2, 3, 4]], TRAINABLE)
    crossing = {(t.value, t.target): t.differentiable for s in segments for t in s.outgoing}
    assert crossing == {("v0", 1): False, ("v0", 2): True, ("v1", 2): False}
    assert segment_graph(graph, segments[1]).stopped == {"v1"}
    assert segment_graph(graph, segments[2]).stopped == frozenset()
