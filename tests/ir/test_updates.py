"""`Graph.updates`: buffers that a training forward replaces."""

from dataclasses import replace

import pytest

from homespun.errors import Code, HomespunError
from ir.check import problems
from ir.cut import cut, replicable, segment_graph
from ir.serde import dump, load

TRAINABLE = frozenset({"first", "last"})


def test_updates_survive_the_wire(averaged):
    assert load(dump(averaged)).updates == averaged.updates == {"mean": "v3"}


def test_a_graph_with_updates_is_accepted_and_its_update_is_not_unused(averaged):
    assert problems(averaged) == ()
    (problem,) = problems(replace(averaged, updates={}))[:1]
    assert "unused" in problem.message


@pytest.mark.parametrize(("updates", "said"), [
    ({"nothing": "v3"}, "must name a parameter and a node's result"),
    ({"mean": "x"}, "must name a parameter and a node's result"),
    ({"mean": "v1"}, "changes its type"),
])
def test_an_update_that_fits_nothing_is_refused(averaged, updates, said):
    wrong = replace(averaged, updates=updates)
    assert any(said in problem.message for problem in problems(wrong))
    with pytest.raises(HomespunError, match="update of") as refused:
        load(dump(wrong))
    assert refused.value.code is Code.INVALID_GRAPH


def test_a_buffer_lives_where_its_update_is_made(averaged):
    segments = cut(averaged, [[0], [1, 2, 3], [4, 5]], TRAINABLE)
    assert [segment.parameters for segment in segments] == [("first",), ("mean",), ("last",)]
    assert segment_graph(averaged, segments[1]).updates == {"mean": "v3"}
    assert segment_graph(averaged, segments[2]).updates == {}


def test_readers_of_a_buffer_are_not_cut_from_its_update(averaged):
    with pytest.raises(HomespunError, match="put both into one segment"):
        cut(averaged, [[0, 1], [2, 3], [4, 5]], TRAINABLE)


def test_an_update_from_data_alone_is_made_once(averaged, new_builder):
    b = new_builder()
    x, seen = b.data("x", 2), b.parameter("seen", 2)
    b.updates[seen] = b.node("Neg", x)
    graph = b.build(b.node("ReduceMean", b.node("Mul", x, seen), keepdims=0))
    assert 0 not in replicable(graph)
