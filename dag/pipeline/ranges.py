"""Tables over all ranges of blocks: what blocks `i` to `j - 1` would take as one segment.

Built once per job, so that a placer can weigh any range by looking it up. All tables have shape
[blocks + 1, blocks + 1] and are meaningful for `i < j`. Memory is an estimate that adds up over
blocks, except where there are few; `dag.cost.segment_memory` follows liveness through the segment
that is really cut, and has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dag.cost import FloatArray, optimizer_bytes, segment_memory, weight_bytes
from dag.job import TrainingSpec
from dag.pipeline.blocks import Blocks
from dag.schedule import DEFERRED_MICROBATCHES_MAX
from ir.cut import cut

EXACT_BLOCKS = 12
"""So few blocks are cut in all ways instead of estimated."""
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """Memory of every range of blocks, and what flows over every cut.

    Attributes:
        count: number of blocks, n.
        fixed: bytes independent of the microbatches in flight, int64 [n + 1, n + 1].
        per_microbatch: bytes for each microbatch in flight, int64 [n + 1, n + 1].
        live_forward: activation bytes that cross the cut before block i, int64 [n + 1].
        live_backward: gradient bytes that cross it the other way, int64 [n + 1].
    """

    count: int
    fixed: IntArray
    per_microbatch: IntArray
    live_forward: IntArray
    live_backward: IntArray


def ranges(blocks: Blocks, training: TrainingSpec) -> Ranges:
    """Tabulate all ranges.

    Cost: O(blocks**2 + edges * blocks); up to `EXACT_BLOCKS`, O(blocks**2 * nodes) instead.
    """
    table = _Tabulation(blocks, training).result()
    return _exact(table, blocks, training) if table.count <= EXACT_BLOCKS else table


def range_seconds(blocks: Blocks, seconds: FloatArray) -> FloatArray:
    """Forward plus backward time of every range, shape [n + 1, n + 1]; infinite for empty ones.

    Args:
        blocks: the blocks.
        seconds: `dag.cost.node_seconds` of a peer.
    """
    per_block = np.array([seconds[:, list(block)].sum() for block in blocks.nodes])
    total = np.concatenate([np.zeros(1), np.cumsum(per_block)])
    table: FloatArray = total[None, :] - total[:, None]
    table[np.tril_indices(len(table))] = np.inf
    return table


def _exact(table: Ranges, blocks: Blocks, training: TrainingSpec) -> Ranges:
    """The table with the memory of every range as a segment that is really cut."""
    costs, n = blocks.costs, table.count
    fixed, per_microbatch = table.fixed.copy(), table.per_microbatch.copy()
    for first in range(n):
        for end in range(first + 1, n + 1):
            bounds = [(0, first), (first, end), (end, n)]
            parts = [blocks.part(a, b) for a, b in bounds if a < b]
            segments = cut(costs.graph, parts, costs.trainable)
            memory = segment_memory(costs, segments[1 if first else 0], training)
            fixed[first, end], per_microbatch[first, end] = memory.fixed, memory.per_microbatch
    return replace(table, fixed=fixed, per_microbatch=per_microbatch)


class _Tabulation:
    def __init__(self, blocks: Blocks, training: TrainingSpec) -> None:
        self._blocks = blocks
        self._costs = blocks.costs
        self._graph = blocks.costs.graph
        self._training = training
        self._n = len(blocks.nodes)
        self._block_of = {
            index: number for number, block in enumerate(blocks.nodes) for index in block}

    def result(self) -> Ranges:
        arriving, leaving, live_forward, live_backward = self._boundaries()
        saved = _difference(self._per_block(self._costs.saved))
        # The first range waits for nobody's gradient, so it defers nothing.
        deferred = DEFERRED_MICROBATCHES_MAX * _difference(self._per_block(self._costs.deferred))
        deferred[0] = 0
        workspace = self._workspace()
        per_microbatch = arriving + self._data()
        if self._training.recompute:
            workspace = workspace + saved
        else:
            per_microbatch = per_microbatch + saved
        return Ranges(
            count=self._n,
            fixed=self._parameters() + arriving + 2 * leaving + workspace + deferred,
            per_microbatch=per_microbatch,
            live_forward=live_forward,
            live_backward=live_backward,
        )

    def _boundaries(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        arriving, leaving = _table(self._n), _table(self._n)
        flows = np.zeros((2, self._n + 2), dtype=np.int64)
        consumers = self._consumers()
        for index, made_in in self._block_of.items():
            for name in self._graph.nodes[index].outputs:
                later = [block for block in consumers.get(name, ()) if block > made_in]
                if not name or not later:
                    continue
                size = self._graph.types[name].size_bytes
                _add_reached(arriving, made_in, later, size)
                leaving[made_in, made_in + 1] += size
                leaving[made_in, later[-1] + 1] -= size
                gradient = size if name in self._costs.differentiable else 0
                flows[:, made_in + 1] += (size, gradient)
                flows[:, later[-1] + 1] -= (size, gradient)
        flows = np.cumsum(flows, axis=1)[:, :self._n + 1]
        leaving = np.cumsum(np.cumsum(leaving[::-1], axis=0)[::-1], axis=1)
        return np.cumsum(arriving, axis=1), leaving, flows[0], flows[1]

    def _parameters(self) -> IntArray:
        weights = _table(self._n)
        gradients, optimizer = [0] * self._n, [0] * self._n
        for name, readers in self._costs.readers.items():
            size = self._graph.types[name].size_bytes
            used_in = sorted({self._block_of[index] for index in readers}) or [0]
            _add_reached(weights, -1, used_in, weight_bytes(size, self._training))
            for index in self._costs.adding[name]:
                gradients[self._block_of[index]] += size
            if name in self._costs.trainable:
                optimizer[used_in[0]] += optimizer_bytes(size, self._training.optimizer)
        held: IntArray = np.cumsum(weights, axis=1)
        return held + _difference(gradients) + _difference(optimizer)

    def _data(self) -> IntArray:
        """Data columns by the blocks that read them, also by way of replicable nodes."""
        columns = {name: frozenset((name,)) for name in self._graph.inputs}
        read_in: dict[str, set[int]] = {name: set() for name in self._graph.inputs}
        nothing: frozenset[str] = frozenset()
        for node in self._graph.nodes:
            needed = nothing.union(*(columns.get(name, nothing) for name in node.inputs))
            if node.index in self._block_of:
                for name in needed:
                    read_in[name].add(self._block_of[node.index])
            else:
                columns.update((name, needed) for name in node.outputs if name)
        table = _table(self._n)
        for name, blocks in read_in.items():
            _add_reached(table, -1, sorted(blocks), self._graph.types[name].size_bytes)
        return np.cumsum(table, axis=1)

    def _workspace(self) -> IntArray:
        """Largest node of a range; replicated nodes may be in any."""
        anywhere = max(
            (self._costs.workspace[i] for i in self._costs.replicable), default=0)
        largest = [
            max(self._costs.workspace[index] for index in block)
            for block in self._blocks.nodes]
        table = np.triu(np.broadcast_to(
            np.array([0, *largest], dtype=np.int64), (self._n + 1, self._n + 1)), k=1)
        return np.maximum(np.maximum.accumulate(table, axis=1), anywhere)

    def _consumers(self) -> dict[str, list[int]]:
        consumers: dict[str, list[int]] = {}
        for index, block in self._block_of.items():
            for name in self._graph.nodes[index].inputs:
                listed = consumers.setdefault(name, [])
                if not listed or listed[-1] != block:
                    listed.append(block)
        return consumers

    def _per_block(self, per_node: Sequence[int]) -> list[int]:
        return [sum(per_node[index] for index in block) for block in self._blocks.nodes]


def _table(count: int) -> IntArray:
    # One column more than needed: differences may end past the last one.
    return np.zeros((count + 1, count + 1), dtype=np.int64)


def _difference(per_block: Sequence[int]) -> IntArray:
    """Sums over all ranges from a value per block."""
    total = np.cumsum(np.array([0, *per_block], dtype=np.int64))
    table: IntArray = total[None, :] - total[:, None]
    return table


def _add_reached(table: IntArray, made_in: int, used_in: Sequence[int], size: int) -> None:
    """Add `size` to every range that begins after `made_in` and holds a block of `used_in`.

    `table` is a difference along j: cumulate it afterwards.
    """
    begin = made_in + 1
    for block in used_in:
        table[begin:block + 1, block + 1] += size
        begin = block + 1
