"""Which changes of a running mapping pay, by passes made within a horizon.

A mapping that takes M seconds of transfers and then v seconds a pass makes (H - M) / v passes in H
seconds; that nothing runs meanwhile is the careful assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dag.mapping.build import starts
from dag.mapping.candidates import work_table
from dag.mapping.coarsen import coarsened
from dag.mapping.judge import fits, loads, makespan, node_seconds, running_order
from dag.mapping.problem import LATENCY, BoolArray, FloatArray, IntArray, MappingProblem
from dag.mapping.refine import rank_order
from dag.replanning.state_moves import Running, move_seconds, moved, nearest
from dag.replanning.worth import seconds_to_pay

BLOCKS = (1, 4, 16, 64, 256)
"""Numbers of blocks that the graph is divided into, besides its single groups."""
NEAR = 4
"""A block is tried on so many devices of neighbours, and so many of the least loaded ones."""
SHARP = 24.0
"""Exponent of the mean that stands for the largest load: several equal loads count as more."""
LEAST_GAIN = 1e-9
"""Share of passes that a move must add, so that rounding moves nothing."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Weighed:
    """A mapping and what it is worth.

    Attributes:
        device: [nodes].
        start_s: [nodes]; zeros for throughput.
        value_s: the objective.
        move_s: transfers of state before it runs.
        passes: made within the horizon.
        smooth: the same with a mean of the loads that is near the largest one in its place; it
            also grows when one of several largest loads falls.
        busy: load of each device; for latency without transfers, [devices].
    """

    device: IntArray
    start_s: FloatArray
    value_s: float
    move_s: float
    passes: float
    smooth: float
    busy: FloatArray


class Scales:
    """Weighs mappings of one problem; remembers the best of those that would not pay."""

    def __init__(self, problem: MappingProblem, running: Running, horizon_s: float) -> None:
        self.problem = problem
        self.running = running
        self.horizon_s = horizon_s
        self.nearest = nearest(problem.devices)
        self.unpaid: Weighed | None = None

    def weigh(self, device: IntArray, planned_s: FloatArray | None = None) -> Weighed:
        """Judge a mapping.

        Args:
            device: of each node.
            planned_s: start times whose order may be better than one by longest paths, [nodes].

        Cost: O(nodes log nodes + edges log edges).
        """
        on = self.problem.devices
        start_s, smoothing = np.zeros(len(device)), 1.0
        if self.problem.objective == LATENCY:
            value_s, start_s = self._latency(device, planned_s)
            load = np.bincount(
                device, weights=node_seconds(self.problem, device),
                minlength=on.count).astype(np.float64)
        else:
            load = loads(self.problem, device)
            value_s = float(load.max())
            if value_s > 0.0:
                smoothing = float(((load / value_s) ** SHARP).sum() ** (1.0 / SHARP))
        move_s = move_seconds(moved(self.running, on, device, self.nearest), on)
        left = max(0.0, self.horizon_s - move_s)
        passes = left / value_s if value_s > 0.0 else np.inf
        return Weighed(device=device, start_s=start_s, value_s=value_s, move_s=move_s,
                       passes=passes, smooth=passes / smoothing, busy=load)

    def _latency(
        self, device: IntArray, planned_s: FloatArray | None
    ) -> tuple[float, FloatArray]:
        orders = [rank_order(self.problem, device)]
        if planned_s is not None:
            orders.append(running_order(self.problem, device, planned_s))
        found = [makespan(self.problem, device, order) for order in orders]
        if self.problem.devices.serial:
            # Transfers queue as nodes start, so the order of the start times may be another one.
            found = [(makespan(self.problem, device, running_order(
                self.problem, device, start_s))[0], start_s) for _, start_s in found]
        return min(found, key=lambda made: made[0])

    def improved(self, base: Weighed, among: BoolArray, apart: IntArray, trials: int) -> Weighed:
        """Move blocks of nodes while that makes more passes.

        Args:
            base: where to begin.
            among: nodes that may move, whole groups, [nodes].
            apart: nodes of different labels are in different blocks, [nodes].
            trials: most mappings to weigh.
        """
        best = base
        levels = self._blocks(apart, among)
        for number, blocks in enumerate(levels):
            left = trials // (len(levels) - number)
            trials -= left
            for block in blocks:
                if left <= 0:
                    break
                for target in self._targets(best, block)[:left]:
                    tried = self._with(best.device, block, target)
                    if tried is None:
                        continue
                    left -= 1
                    found = self.weigh(tried)
                    self._note(found, base)
                    if _makes_more(found, best):
                        best = found
            trials += left
        return best

    def pruned(self, found: Weighed, base: Weighed, trials: int) -> Weighed:
        """Take moves back, of many nodes and then of few, where that makes no fewer passes."""
        pairs = base.device * self.problem.devices.count + found.device
        for blocks in self._blocks(pairs, base.device != found.device):
            for block in blocks:
                if trials <= 0:
                    return found
                tried = found.device.copy()
                tried[block] = base.device[block]
                if fits(self.problem, tried):
                    trials -= 1
                    back = self.weigh(tried)
                    found = back if back.passes >= found.passes else found
        return found

    def _note(self, found: Weighed, base: Weighed) -> None:
        """Remember a mapping that is better but not by enough."""
        worth = found.value_s < base.value_s * (1.0 - LEAST_GAIN) and not pays(found, base)
        if worth and (self.unpaid is None or found.passes > self.unpaid.passes):
            self.unpaid = found

    def _blocks(self, apart: IntArray, among: BoolArray) -> list[list[IntArray]]:
        """Nodes of each block among some, those of most work first; largest blocks first.

        No block mixes labels of `apart`. Each list of blocks divides those of the one before.
        """
        graph, label = self.problem.graph, apart * 2 + among
        part = np.arange(graph.nodes)
        levels = [self._by_work(graph.group, among)]
        for count in reversed(BLOCKS):
            coarse = coarsened(graph, count, apart=label)
            first = np.unique(coarse.part, return_index=True)[1]
            graph, label, part = coarse.graph, label[first], coarse.part[part]
            levels.append(self._by_work(graph.group[part], among))
        return levels[::-1]

    def _by_work(self, block: IntArray, among: BoolArray) -> list[IntArray]:
        """Nodes of each block of which the first node is among some, most work first."""
        work = np.bincount(block, weights=self.problem.graph.compute_s.min(axis=1))
        by_block = np.argsort(block, kind="stable")
        first = starts(block[by_block], len(work))
        blocks = [by_block[first[number]:first[number + 1]]
                  for number in np.argsort(-work, kind="stable").tolist()]
        return [nodes for nodes in blocks if among[nodes[0]]]

    def _targets(self, best: Weighed, block: IntArray) -> list[int]:
        """Devices worth trying for a block: where its neighbours are, and the least loaded."""
        graph, on, device = self.problem.graph, self.problem.devices, best.device
        inside = np.zeros(graph.nodes, dtype=np.bool_)
        inside[block] = True
        source, target = inside[graph.edge_source], inside[graph.edge_target]
        near = np.concatenate([
            device[graph.edge_target[source & ~target]],
            device[graph.edge_source[target & ~source]]])
        meetings = np.bincount(near, minlength=on.count)
        after = best.busy + work_table(self.problem)[block].sum(axis=0)[on.column] / on.speed
        by_meetings = np.argsort(-meetings, kind="stable")[:min(NEAR, np.count_nonzero(meetings))]
        by_load = np.argsort(after, kind="stable")[:NEAR]
        return [number for number in dict.fromkeys([*by_meetings.tolist(), *by_load.tolist()])
                if number != device[block[0]] and np.isfinite(after[number])]

    def _with(self, device: IntArray, block: IntArray, target: int) -> IntArray | None:
        """The mapping with a block elsewhere; None if pins or memory forbid it."""
        pin = self.problem.graph.pin[block]
        if ((pin >= 0) & (pin != target)).any():
            return None
        tried = device.copy()
        tried[block] = target
        return tried if fits(self.problem, tried) else None


def pays(found: Weighed, base: Weighed) -> bool:
    """Whether a mapping makes more passes than another within the horizon."""
    return found.passes > base.passes * (1.0 + LEAST_GAIN)


def payback_seconds(found: Weighed, base: Weighed) -> float:
    """After how long a mapping has made more passes than another; infinite if never."""
    return seconds_to_pay(found.value_s, found.move_s, base.value_s, base.move_s)


def _makes_more(found: Weighed, best: Weighed) -> bool:
    if found.smooth == best.smooth == 0.0:
        return found.move_s < best.move_s
    return found.smooth > best.smooth * (1.0 + LEAST_GAIN)

