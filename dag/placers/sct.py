"""m-SCT: m-ETF with favourite children, chosen by a linear program, for which a device may wait.

Baechi (Jeon et al., SoCC 2020), after Hanen & Munier's small communication times: a node may run
right after its producer, on its device and without a transfer, for one child of each node and one
parent of each child. The relaxed program says which edges are worth it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from dag.mapping.problem import FloatArray, IntArray, Mapping, MappingProblem, Unmapped
from dag.placers.event_schedule import schedule
from dag.placers.heft import mean_transfers, typical_seconds

THRESHOLD = 0.5
"""The default of the reference's functions, with which its published toy answers come out; its
command line has 0.1, with which one of them does not."""

TOLERANCE = 1e-9
"""Of the solver: what is so little above the threshold is not above it."""


class Relaxed(NamedTuple):
    """The solved program; an edge here is an ordered pair of nodes, whatever tensors it carries.

    Attributes:
        source: [pairs], ordered by it.
        target: [pairs].
        apart: 0 if the target should start right after the source on its device, 1 if it need not;
            [pairs].
        makespan_s: least on unlimited devices, if nodes could be apart by fractions.
    """

    source: IntArray
    target: IntArray
    apart: FloatArray
    makespan_s: float


def m_sct(problem: MappingProblem, threshold: float = THRESHOLD) -> Mapping | Unmapped:
    """Baechi's memory-constrained small communication times.

    Args:
        problem: the problem.
        threshold: an edge makes a favourite child if it is apart by at most so much, 0 to 1.

    Cost: a linear program of nodes + edges variables (about quadratic in practice), and m-ETF's,
    twice.
    """
    solved = relaxed(problem)
    if isinstance(solved, Unmapped):
        return solved
    return schedule(problem, favourites(solved, problem.graph.nodes, threshold), "m-sct")


def favourites(solved: Relaxed, nodes: int, threshold: float) -> IntArray:
    """Favourite child of each node, or -1, [nodes].

    Rounding may give a node two favourites or a child two parents. As in the reference the last
    edge wins, and the parent that the child had before has none then, not even another child.
    """
    child = np.full(nodes, -1, dtype=np.int64)
    parent = np.full(nodes, -1, dtype=np.int64)
    for pair in np.flatnonzero(solved.apart <= threshold + TOLERANCE).tolist():
        source, target = solved.source[pair], solved.target[pair]
        child[source] = target
        if parent[target] >= 0:
            child[parent[target]] = -1
        parent[target] = source
    return child


def relaxed(problem: MappingProblem) -> Relaxed | Unmapped:
    """Solve the program of favourite children, with HiGHS.

    Times are means over the devices that can run a node and over all pairs of devices; the transfer
    of an edge is that of all its tensors, one after the other.

        least w   with   start[i] + seconds[i] + transfer[i, j] * apart[i, j] <= start[j]
                         sum of apart over the children of i >= children - 1
                         sum of apart over the parents of j >= parents - 1
                         start[i] + seconds[i] <= w,   0 <= apart <= 1,   0 <= start

    The optimum need not be unique, and then the plan depends on which one the solver finds.
    """
    node_s = typical_seconds(problem.seconds())
    source, target, transfer_s = _pairs(problem)
    scale = _scale(node_s, transfer_s)
    pairs, nodes = len(source), len(node_s)
    matrix, bound = _constraints(node_s / scale, source, target, transfer_s / scale)
    cost = np.zeros(pairs + nodes + 1)
    cost[-1] = 1.0
    bounds = np.zeros((pairs + nodes + 1, 2))
    bounds[:pairs, 1] = 1.0
    bounds[pairs:, 1] = np.inf
    found = linprog(cost, A_ub=matrix, b_ub=bound, bounds=bounds, method="highs")
    if found.status != 0:
        return Unmapped(
            algorithm="m-sct", reason=f"the linear program was not solved: {found.message}")
    return Relaxed(source, target, found.x[:pairs], float(found.fun) * scale)


def _pairs(problem: MappingProblem) -> tuple[IntArray, IntArray, FloatArray]:
    """Source, target and mean transfer of each ordered pair of nodes that an edge joins."""
    graph, tensors = problem.graph, len(problem.graph.tensor_bytes)
    if not graph.edges:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    pair_of_edge = graph.edge_source * graph.nodes + graph.edge_target
    carried = np.unique(pair_of_edge * tensors + graph.edge_tensor)
    pair, number = np.unique(carried // tensors, return_inverse=True)
    transfer_s = np.bincount(number, weights=mean_transfers(problem)[carried % tensors])
    return pair // graph.nodes, pair % graph.nodes, transfer_s.astype(np.float64)


def _scale(node_s: FloatArray, transfer_s: FloatArray) -> float:
    """A power of two near the largest time: the solver's tolerances are absolute."""
    largest = max(float(node_s.max(initial=0.0)), float(transfer_s.max(initial=0.0)))
    return float(2.0 ** np.floor(np.log2(largest))) if largest > 0.0 else 1.0


def _constraints(
    node_s: FloatArray, source: IntArray, target: IntArray, transfer_s: FloatArray
) -> tuple[coo_array, FloatArray]:
    """Rows and bounds over the variables (apart by pair, start by node, w): rows <= bounds."""
    pairs, nodes = len(source), len(node_s)
    pair, node = np.arange(pairs), np.arange(nodes)
    after = pairs + nodes
    parents, of_parent, children = np.unique(source, return_inverse=True, return_counts=True)
    kids, of_kid, producers = np.unique(target, return_inverse=True, return_counts=True)
    first_parent, first_kid = pairs, pairs + len(parents)
    first_node = first_kid + len(kids)
    rows = [pair, pair, pair, first_parent + of_parent, first_kid + of_kid,
            first_node + node, first_node + node]
    columns = [pairs + source, pairs + target, pair, pair, pair,
               pairs + node, np.full(nodes, after)]
    factors = [np.ones(pairs), -np.ones(pairs), transfer_s, -np.ones(pairs), -np.ones(pairs),
               np.ones(nodes), -np.ones(nodes)]
    bound = np.concatenate([-node_s[source], 1.0 - children, 1.0 - producers, -node_s])
    entries = (np.concatenate(factors), (np.concatenate(rows), np.concatenate(columns)))
    return coo_array(entries, shape=(first_node + nodes, after + 1)).tocsr(), bound
