"""Which part of a graph each peer's executor can run: a hard constraint on every placement.

A replicable node runs in every segment that needs its value (`ir.cut`), so a peer can run a node
only if it can also run the replicable ones that the node depends on. `Feasibility` works that out
for each peer once; placers read it as one boolean per peer and block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dag.cluster import PeerResources
from dag.pipeline.blocks import Blocks
from dag.placement import PlacementProblem, Refusal
from dag.support import COMPLETE_EXECUTORS, Obstacle, SupportIndex
from ir.cut import replicable
from ir.graph import TRAIN, Graph

BoolArray = npt.NDArray[np.bool_]

STATES_MAX = 20_000
"""Sets of peers that the search for an order follows at once: all of 16 different peers."""
NAMED_NODES = 16
"""Refusals of one kind, each naming a node; the last of them tells how many more there are."""


@dataclass(frozen=True, slots=True, eq=False)
class _Reach:
    """What one executor makes of the graph.

    Attributes:
        obstacles: node -> why the executor does not run it.
        runnable: per node, whether it and all replicable nodes below it are run, shape [nodes].
    """

    obstacles: Mapping[int, Obstacle]
    runnable: BoolArray


class Feasibility:
    """Which nodes each peer of a problem can run, and why not.

    Cost to make: O(different executors * nodes).
    """

    def __init__(self, problem: PlacementProblem) -> None:
        self._problem, self._graph = problem, problem.graph
        self._free = replicable(problem.graph)
        known: dict[object, _Reach] = {}
        self._reach: list[_Reach] = []
        for peer in problem.cluster.peers:
            if peer.support not in known:
                known[peer.support] = self._reach_of(peer)
            self._reach.append(known[peer.support])

    def _reach_of(self, peer: PeerResources) -> _Reach:
        graph = self._graph
        if peer.support is None:
            return _Reach({}, np.ones(len(graph.nodes), dtype=np.bool_))
        index = SupportIndex(peer.support, trains=self._problem.job.kind == TRAIN)
        found = ((node.index, index.obstacle(graph, node)) for node in graph.nodes)
        obstacles = {number: obstacle for number, obstacle in found if obstacle is not None}
        return _Reach(obstacles, _with_replicated(graph, self._free, obstacles))

    def runs_any(self, peer: int) -> bool:
        """Whether the peer at a position of the cluster can run any node."""
        return bool(self._reach[peer].runnable.any())

    def kinds(self) -> list[int]:
        """For each peer a number; peers of the same number can run the same nodes."""
        numbers: dict[bytes, int] = {}
        return [numbers.setdefault(reach.runnable.tobytes(), len(numbers))
                for reach in self._reach]

    def changes(self) -> frozenset[int]:
        """Nodes that other peers can run than the node placed before them."""
        order = [node.index for node in self._graph.nodes if node.index not in self._free]
        if not order or not self._reach:
            return frozenset()
        table = np.stack([reach.runnable[order] for reach in self._reach])
        places = np.flatnonzero((table[:, 1:] != table[:, :-1]).any(axis=0)) + 1
        return frozenset(order[place] for place in places)

    def blocks(self, peer: int, blocks: Blocks) -> BoolArray:
        """Per block, whether the peer at a position of the cluster can run it, shape [blocks]."""
        runnable = self._reach[peer].runnable
        result = np.array([runnable[list(block)].all() for block in blocks.nodes])
        # A result that a replicable node computes is left to the last part.
        last = [node.index for node in self._graph.nodes if node.index in self._free
                and not set(self._graph.outputs).isdisjoint(node.outputs)]
        result[-1] = result[-1] and bool(runnable[last].all())
        return result

    def refusal(self, peer: int) -> Refusal:
        """Why a peer that cannot run everything has nothing to do, by the first node at fault."""
        resources, obstacles = self._problem.cluster.peers[peer], self._reach[peer].obstacles
        number = min(obstacles)
        more = len(obstacles) - 1
        return _refusal(
            resources.peer_id, self._graph, number, obstacles[number],
            f"Its executor{_called(resources)} {obstacles[number].text}: node {number} "
            f"'{self._graph.nodes[number].name}'" + (f" and {more} more." if more else "."))

    def impossible(self) -> tuple[Refusal, ...]:
        """A refusal for each node that no peer can run, at most `NAMED_NODES`; empty if none.

        The texts say what each executor lacks, and what to start instead.
        """
        tables = [reach.obstacles for reach in self._reach]
        nowhere = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
        return tuple(self._nowhere(number) for number in nowhere[:NAMED_NODES])

    def _nowhere(self, number: int) -> Refusal:
        node = self._graph.nodes[number]
        whys = list(dict.fromkeys(
            f"{peer.executor or peer.peer_id} {reach.obstacles[number].text}"
            for peer, reach in zip(self._problem.cluster.peers, self._reach, strict=True)))
        return _refusal(
            self._problem.job.name, self._graph, number, self._reach[0].obstacles[number],
            f"No peer can run node {number} '{node.name}' ({node.op_type}): {'; '.join(whys)}. "
            + remedy())

    def disconnected(self) -> tuple[Refusal, ...]:
        """Why peers that could run every node between them cannot run the graph, one per peer."""
        return tuple(
            self.refusal(peer) for peer, reach in enumerate(self._reach) if reach.obstacles)


def remedy() -> str:
    """What to start where the present executors do not do."""
    able = " or ".join(COMPLETE_EXECUTORS)
    return (f"{able} can: start a peer with `peer run --executor "
            f"{COMPLETE_EXECUTORS[0]}`.")


def runnable_ranges(runnable: BoolArray) -> BoolArray:
    """Whether all blocks `i` to `j - 1` can be run, shape [blocks + 1, blocks + 1]."""
    missing = np.concatenate([[0], np.cumsum(~runnable)])
    table: BoolArray = missing[None, :] == missing[:, None]
    return table


def covering_order(runnable: Sequence[BoolArray]) -> tuple[int, ...] | None:
    """Fewest peers, in order, that can run all blocks one after the other; None: no peers can.

    Since a peer that begins further on never ends earlier, the furthest that a set of peers gets
    is all that matters of it, and of equal peers only their number.

    Args:
        runnable: for each peer which blocks it can run, [peers][blocks].

    Cost: O(product of (peers of a kind + 1) * kinds), 2**peers where all are different; of more
    than `STATES_MAX` sets of one size, those that got furthest are followed.
    """
    kinds: dict[bytes, list[int]] = {}
    for peer, table in enumerate(runnable):
        kinds.setdefault(table.tobytes(), []).append(peer)
    members = list(kinds.values())
    ends = [_run_ends(runnable[peers[0]]) for peers in members]
    blocks = len(runnable[0]) if runnable else 0
    furthest: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {(0,) * len(members): (0, ())}
    while furthest:
        extended: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
        for used, reached, path in ((used, *found) for used, found in furthest.items()):
            for kind, end in _extensions(used, reached, members, ends):
                after = (*used[:kind], used[kind] + 1, *used[kind + 1:])
                if end > extended.get(after, (reached, ()))[0]:
                    extended[after] = (end, (*path, members[kind][used[kind]]))
        for reached, path in extended.values():
            if reached == blocks:
                return path
        kept = sorted(extended, key=lambda used: extended[used][0], reverse=True)[:STATES_MAX]
        furthest = {used: extended[used] for used in kept}
    return None


def _extensions(
    used: tuple[int, ...], reached: int, members: Sequence[Sequence[int]],
    ends: Sequence[Sequence[int]],
) -> Iterator[tuple[int, int]]:
    for kind, peers in enumerate(members):
        if used[kind] < len(peers) and ends[kind][reached] > reached:
            yield kind, ends[kind][reached]


def _run_ends(runnable: BoolArray) -> list[int]:
    """For each block where the run of runnable blocks that begins there ends; itself if none."""
    ends = [len(runnable)] * (len(runnable) + 1)
    for block in range(len(runnable) - 1, -1, -1):
        follows = block + 1 < len(runnable) and runnable[block + 1]
        ends[block] = block if not runnable[block] else (
            ends[block + 1] if follows else block + 1)
    return ends


def _with_replicated(
    graph: Graph, free: frozenset[int], obstacles: Mapping[int, Obstacle]
) -> BoolArray:
    """Per node, whether it and the replicable nodes that it depends on have no obstacle."""
    spoilt: set[str] = set()
    runnable = np.ones(len(graph.nodes), dtype=np.bool_)
    for node in graph.nodes:
        runnable[node.index] = (
            node.index not in obstacles and spoilt.isdisjoint(node.inputs))
        if node.index in free and not runnable[node.index]:
            spoilt.update(name for name in node.outputs if name)
    return runnable


def _called(peer: PeerResources) -> str:
    return f" ({peer.executor})" if peer.executor else ""


def _refusal(
    subject: str, graph: Graph, number: int, obstacle: Obstacle, text: str
) -> Refusal:
    return Refusal(
        subject=subject, rule=obstacle.rule, wanted=1, had=0, text=text,
        node=graph.nodes[number].name)
