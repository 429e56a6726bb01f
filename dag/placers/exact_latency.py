"""The mixed-integer program of the smallest makespan.

A start time for each node; the order of two nodes matters where they share a device and the graph
leaves them unordered (the disjunctive program of job shops, Manne 1960). Over serial channels every
(tensor, remote device) is one more task, and two of them are ordered where they share an end. The
judge fetches inputs when their node's turn comes, which is one of the schedules that this program
chooses from; so its optimum is never above the judge's value.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from dag.mapping.build import topological_order
from dag.mapping.paths import longest_after, places
from dag.mapping.problem import BoolArray, FloatArray, IntArray, MappingProblem
from dag.mapping.units import Units
from dag.placers.assignment import assigned, travelling
from dag.placers.program import Program, Term


class LatencyProgram:
    """The program of one problem; times are divided by `scale`, a bound of the makespan."""

    def __init__(self, problem: MappingProblem, units: Units, known_s: float) -> None:
        self._problem, self._units = problem, units
        graph = problem.graph
        seconds = problem.seconds()
        seconds[~np.isfinite(units.forward_s)[units.label]] = np.inf
        self.scale = min(known_s * (1 + 1e-6), longest_needed(problem, units)) or 1.0
        self._seconds = seconds / self.scale
        least = self._seconds.min(axis=1)
        self._head, self._tail = heads(problem, least), tails(problem, least)
        self.program = Program()
        self.place = assigned(self.program, problem, units)
        self.makespan = int(self.program.variables(np.ones(1))[0])
        self._start = self.program.variables(np.maximum(1.0 - least - self._tail, 0.0))
        for node in range(graph.nodes):
            self.program.at_least([(self._start[node], 1.0)], self._head[node])
            self.program.at_least(
                [(self.makespan, 1.0), (self._start[node], -1.0), *self._duration(node)],
                self._tail[node])
        self._share_devices()
        if problem.devices.serial:
            self._queue_transfers()
        else:
            self._wait_for_transfers()

    def order(self, point: FloatArray) -> IntArray:
        """Nodes as the solution runs them, every edge forward whatever the rounding."""
        graph = self._problem.graph
        by_start = np.lexsort((places(graph.topological), point[self._start])).astype(np.int64)
        rank = places(by_start)
        ranks = topological_order(graph.nodes, rank[graph.edge_source], rank[graph.edge_target])
        ordered: IntArray = by_start[ranks]
        return ordered

    def _duration(self, node: int) -> list[Term]:
        """Terms that subtract a node's time."""
        unit = self._units.label[node]
        return [(self.place[unit, device], -self._seconds[node, device])
                for device in np.flatnonzero(np.isfinite(self._seconds[node])).tolist()]

    def _before(self, first: int, second: int, switch: int) -> None:
        """If `switch` is 1, `first` ends before `second` starts."""
        slack = 1.0 - self._tail[first] - self._head[second]
        self.program.at_least(
            [(self._start[second], 1.0), (self._start[first], -1.0), *self._duration(first),
             (switch, -slack)], -slack)

    def _share_devices(self) -> None:
        label = self._units.label
        able = np.isfinite(self._seconds)
        reach = reachable(self._problem)
        for one, other in combinations(range(len(label)), 2):
            shared = np.flatnonzero(able[one] & able[other]).tolist()
            if reach[one, other] or reach[other, one] or not shared:
                continue
            switches = self.program.variables(np.ones(2), whole=True)
            if label[one] == label[other]:
                self.program.at_least([(switch, 1.0) for switch in switches], 1.0)
            else:
                for device in shared:
                    self.program.at_least(
                        [(switches[0], 1.0), (switches[1], 1.0),
                         (self.place[label[one], device], -1.0),
                         (self.place[label[other], device], -1.0)], -1.0)
            self._before(one, other, switches[0])
            self._before(other, one, switches[1])

    def _wait_for_transfers(self) -> None:
        graph, label = self._problem.graph, self._units.label
        travels: dict[tuple[int, int], IntArray] = {}
        for edge in range(graph.edges):
            source, target = int(graph.edge_source[edge]), int(graph.edge_target[edge])
            tensor = int(graph.edge_tensor[edge])
            row = [(self._start[target], 1.0), (self._start[source], -1.0),
                   *self._duration(source)]
            if label[source] != label[target]:
                key = (tensor, int(label[target]))
                if key not in travels:
                    travels[key] = travelling(
                        self.program, self.place, int(label[source]), [int(label[target])])
                row += self._transfer(tensor, travels[key])
            self.program.at_least(row, 0.0)

    def _transfer(self, tensor: int, sent: IntArray) -> list[Term]:
        """Terms that subtract a transfer's time; to one target device if `sent` is a column."""
        devices = self._problem.devices.count
        return [
            (sent[source, target],
             -self._problem.transfer_seconds(tensor, source, target) / self.scale)
            for source in range(devices) for target in range(devices) if source != target
            and sent[source, target] >= 0]

    def _queue_transfers(self) -> None:
        graph, label, devices = self._problem.graph, self._units.label, self._problem.devices
        tasks: list[tuple[int, int, IntArray, int]] = []
        for tensor in range(len(graph.tensor_bytes)):
            source = int(graph.tensor_source[tensor])
            readers = graph.edge_target[graph.edge_tensor == tensor]
            for node in readers.tolist():
                self.program.at_least(
                    [(self._start[node], 1.0), (self._start[source], -1.0),
                     *self._duration(source)], 0.0)
            apart = [n for n in readers.tolist() if label[n] != label[source]]
            if not apart:
                continue
            sent = travelling(
                self.program, self.place, int(label[source]),
                np.unique(label[apart]).tolist())
            for device in range(devices.count):
                begin = int(self.program.variables(np.ones(1))[0])
                column = np.full_like(sent, -1)
                column[:, device] = sent[:, device]
                self._one_transfer(tensor, source, begin, column, device, apart)
                tasks.append((tensor, device, column, begin))
        for one, other in combinations(tasks, 2):
            self._share_channels(one, other)

    def _one_transfer(
        self, tensor: int, source: int, begin: int, column: IntArray, device: int,
        readers: list[int],
    ) -> None:
        self.program.at_least(
            [(begin, 1.0), (self._start[source], -1.0), *self._duration(source)], 0.0)
        for node in readers:
            there = int(self.place[self._units.label[node], device])
            self.program.at_least(
                [(self._start[node], 1.0), (begin, -1.0), (there, -1.0),
                 *self._transfer(tensor, column)], -1.0)

    def _share_channels(
        self, one: tuple[int, int, IntArray, int], other: tuple[int, int, IntArray, int]
    ) -> None:
        """Two transfers with an end in common go one after the other."""
        switches = self.program.variables(np.ones(2), whole=True)
        for device in range(self._problem.devices.count):
            self.program.at_least(
                [(switches[0], 1.0), (switches[1], 1.0), *_uses(one, device),
                 *_uses(other, device)], -1.0)
        for first, second, switch in ((one, other, switches[0]), (other, one, switches[1])):
            # A transfer that is not made takes no time and may begin whenever its producer ended.
            self.program.at_least(
                [(second[3], 1.0), (first[3], -1.0), *self._transfer(first[0], first[2]),
                 (switch, -1.0)], -1.0)


def reachable(problem: MappingProblem) -> BoolArray:
    """Whether a path goes from one node to another, [nodes, nodes]. Cost: O(nodes * edges)."""
    graph = problem.graph
    reach = np.zeros((graph.nodes, graph.nodes), dtype=bool)
    for node in graph.topological[::-1].tolist():
        for number in graph.out_edges[graph.first_out[node]:graph.first_out[node + 1]].tolist():
            target = graph.edge_target[number]
            reach[node] |= reach[target]
            reach[node, target] = True
    return reach


def longest_needed(problem: MappingProblem, units: Units) -> float:
    """A makespan that some mapping surely keeps if any is feasible, seconds.

    The best single device that holds everything; otherwise everything one after the other, at its
    slowest.
    """
    whole = units.forward_s.sum(axis=0)
    total = units.held_bytes.sum() + units.temporary_bytes.max(initial=0.0)
    whole[total > problem.devices.memory_bytes] = np.inf
    if np.isfinite(whole).any():
        return float(whole.min())
    slowest = np.where(np.isfinite(units.forward_s), units.forward_s, 0.0).max(axis=1).sum()
    devices = range(problem.devices.count)
    for tensor in units.tensor.tolist():  # once per unit that reads it
        slowest += max((problem.transfer_seconds(tensor, a, b)
                        for a in devices for b in devices if a != b), default=0.0)
    return float(slowest)


def heads(problem: MappingProblem, least: FloatArray) -> FloatArray:
    """Longest path before each node, in least times."""
    graph = problem.graph
    head = np.zeros(graph.nodes)
    for node in graph.topological.tolist():
        for source in graph.edge_source[graph.first_in[node]:graph.first_in[node + 1]].tolist():
            head[node] = max(head[node], head[source] + least[source])
    return head


def tails(problem: MappingProblem, least: FloatArray) -> FloatArray:
    """Longest path after each node, in least times."""
    return longest_after(problem.graph, least, np.zeros(problem.graph.edges))


def _uses(task: tuple[int, int, IntArray, int], device: int) -> list[Term]:
    """Terms that subtract whether a transfer keeps a device's channel busy."""
    column, target = task[2], task[1]
    if device != target:
        return [(int(column[device, target]), -1.0)]
    return [(int(column[source, target]), -1.0)
            for source in range(len(column)) if source != target]
