"""Where a graph may be cut: never between a buffer's readers and its update."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from dag.cost import graph_costs
from dag.job import OptimizerSpec, TrainingSpec
from dag.pipeline.blocks import coarsen, cutting_places
from ir.cut import cut
from ir.graph import Graph, Node, TensorType

TRAINING = TrainingSpec(steps=1, batch_size=2, microbatches=1, seed=0,
                        optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1))
NODES = 12
TRAINABLE = frozenset(f"w{index}" for index in range(NODES))


@pytest.fixture
def twice():
    """A chain; a buffer is read by nodes 2 and 5, and node 7 makes its update.

    That is the shape of a batch normalisation that is called twice.
    """
    row, scalar = TensorType("float32", (4,)), TensorType("float32", ())
    nodes = []
    for index in range(NODES):
        weight = "mean" if index in (2, 5) else f"w{index}"
        before = f"v{index - 1}" if index else "x"
        nodes.append(Node(index, f"n{index}", "Mul", (before, weight), (f"v{index}",)))
    nodes.append(Node(NODES, "sum", "ReduceSum", (f"v{NODES - 1}",), ("loss",), {"keepdims": 0}))
    parameters = ("mean", *sorted(TRAINABLE - {"w2", "w5"}))
    types = dict.fromkeys(("x", *parameters, *(f"v{i}" for i in range(NODES))), row)
    return Graph(
        opset=23, nodes=tuple(nodes), inputs=("x",), parameters=parameters, outputs=("loss",),
        constants={}, types={**types, "loss": scalar}, updates={"mean": "v7"})


def test_no_place_parts_a_buffer_from_its_update(twice):
    order = [node.index for node in twice.nodes]
    assert cutting_places(twice, order) == [1, 2, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("max_blocks", [2, 4, 6, 256])
def test_every_division_of_the_blocks_is_a_cut(twice, max_blocks):
    costs = graph_costs(twice, TRAINABLE)
    seconds = np.ones((2, len(twice.nodes)))
    blocks = coarsen(costs, seconds, TRAINING, max_blocks)
    assert 1 < len(blocks.nodes) <= max_blocks
    assert [i for block in blocks.nodes for i in block] == [n.index for n in twice.nodes]
    count = len(blocks.nodes)
    for places in combinations(range(1, count), min(2, count - 1)):
        bounds = (0, *places, count)
        parts = [blocks.part(a, b) for a, b in pairwise(bounds)]
        assert len(cut(twice, parts, TRAINABLE)) == len(parts)
