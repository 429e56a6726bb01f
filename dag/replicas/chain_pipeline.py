"""A chain of nodes as a pipeline: stages on devices, and the time that microbatches take.

Seconds and bytes of the cost graph are those of one microbatch here; `output_bytes` is what a node
keeps of each until its backward, and a stage keeps what it received besides. Transfers overlap with
computing, and a device's line carries activations onward and gradients back, one after the other.
For each number of stages `dag.pipeline.split` finds the cut with the fastest bottleneck; a closed
form says how long a step takes, and the number with the shortest is chosen.

The form is FusionAI's (Tang et al. 2023, arXiv:2309.01172: once through, then the slowest stage or
link for every further microbatch) with one term more: 1F1B admits a microbatch only when an older
one has come back, so with a window of w microbatches the period is at least the round trip over w.
Against `dag.schedule.timeline` it is right to about a tenth where stages are alike, and up to a
third too fast where a small window meets unequal stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise, permutations

import numpy as np

from dag.mapping.paths import places
from dag.mapping.problem import Devices, FloatArray, IntArray, MappingProblem
from dag.pipeline.ranges import Ranges
from dag.pipeline.split import Split, SplitProblem, Splitter
from dag.placement import Refusal
from dag.placers.ideals import along_links
from homespun.errors import Code, HomespunError

HELD_FORWARD = 2
"""Microbatches that a stage without backward holds: one computed, one being sent."""
WINDOW_MAX = 2**31


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pipeline:
    """Stages on devices. Stage s runs the chain's nodes `bounds[s]` to `bounds[s + 1] - 1`.

    Attributes:
        devices: of each stage, numbers of the problem's devices.
        bounds: ascending places in the chain; one more than stages.
        stage_s: one microbatch forward and backward, [stages].
        link_s: how long it keeps the line to the next stage busy, there and back, [stages - 1].
        latency_s: of that line, there and back (without backward: there), [stages - 1].
        window: microbatches that a stage's memory holds between forward and backward, [stages].
    """

    devices: tuple[int, ...]
    bounds: tuple[int, ...]
    stage_s: FloatArray
    link_s: FloatArray
    latency_s: FloatArray
    window: IntArray

    @property
    def once_s(self) -> float:
        """One microbatch through everything and back: fill and drain."""
        return float(self._round_trips()[0])

    @property
    def period_s(self) -> float:
        """Between two microbatches in the steady state."""
        return max(self._limits().values())

    @property
    def limit(self) -> str:
        """What sets the period: `compute`, `link`, or `window` (memory for microbatches)."""
        limits = self._limits()
        return max(limits, key=lambda name: limits[name])

    def seconds(self, microbatches: int) -> float:
        """Time of so many microbatches, >= 1."""
        return self.once_s + (microbatches - 1) * self.period_s

    def _limits(self) -> dict[str, float]:
        return {
            "compute": float(self.stage_s.max()),
            "link": float(self.link_s.max(initial=0.0)),
            "window": float((self._round_trips() / self.window).max())}

    def _round_trips(self) -> FloatArray:
        """From a microbatch's arrival at each stage until its gradient is back there, [stages]."""
        beyond = np.append(self.link_s + self.latency_s, 0.0)
        trips: FloatArray = np.cumsum((self.stage_s + beyond)[::-1])[::-1]
        return trips


class ChainPlanner:
    """Plans pipelines for groups of a problem's devices; equal groups are planned once.

    Cost of a group: O(orders * (devices * kinds * nodes**2 + devices**3 * nodes)) with up to four
    orders; if devices and links are all alike, O(devices * nodes**2 + devices**3).
    """

    def __init__(self, problem: MappingProblem) -> None:
        """Tabulate the chain.

        Raises:
            HomespunError: INVALID_ARGUMENT if the graph is no chain, or has pins or groups.
        """
        self._problem = problem
        self._is_training = bool(problem.graph.backward_s.any())
        self._cut_bytes = cut_bytes(problem)
        self._ranges = _ranges(problem, self._cut_bytes)
        self._spans: dict[tuple[int, float], FloatArray] = {}
        self._splits: dict[tuple[bytes, int], list[Split]] = {}  # none depends on latency
        self._chosen: dict[tuple[bytes, int], Split] = {}

    def over(self, devices: Devices) -> ChainPlanner:
        """The same chain over other devices; splits are kept, where only latency differs."""
        other = copy(self)
        other._problem = replace(self._problem, devices=devices)
        other._chosen = {}
        return other

    def __call__(self, group: Sequence[int], microbatches: int) -> Pipeline | Refusal:
        """The pipeline on some of these devices with the shortest step, or why there is none.

        Args:
            group: device numbers, at least one.
            microbatches: that will flow through it, >= 1.
        """
        persistent = float(self._problem.graph.persistent_bytes.sum())
        offered = float(self._problem.devices.memory_bytes[list(group)].sum())
        split = self._choice(group, microbatches) if persistent <= offered else None
        if split is None:
            wanted = float(self._ranges.fixed[0, -1] + self._ranges.per_microbatch[0, -1])
            return Refusal(
                subject=self._problem.devices.ids[group[0]], rule="memory", wanted=wanted,
                had=offered, text=f"{len(group)} devices with {offered:g} bytes together do not "
                f"hold the chain: it takes {wanted:g} bytes on one device, more when cut.")
        return self._along(group, split)

    def pipeline(self, devices: Sequence[int], bounds: Sequence[int]) -> Pipeline:
        """The pipeline with these stages, which must fit."""
        known, cuts = self._problem.devices, list(bounds[1:-1])
        there, back = np.array(devices[:-1], dtype=np.int64), np.array(devices[1:], dtype=np.int64)
        latency_s = known.latency_s[there, back]
        link_s = self._cut_bytes[cuts] / known.bandwidth_bytes_per_s[there, back]
        if self._is_training:
            latency_s = latency_s + known.latency_s[back, there]
            link_s = link_s + self._cut_bytes[cuts] / known.bandwidth_bytes_per_s[back, there]
        return Pipeline(
            devices=tuple(devices), bounds=tuple(bounds), link_s=link_s, latency_s=latency_s,
            stage_s=np.array([
                self._seconds(device)[first, end]
                for device, (first, end) in zip(devices, pairwise(bounds), strict=True)]),
            window=np.array([
                self._window(device, first, end)
                for device, (first, end) in zip(devices, pairwise(bounds), strict=True)]))

    def _window(self, device: int, first: int, end: int) -> int:
        each = int(self._ranges.per_microbatch[first, end])
        if not self._is_training or not each:
            return WINDOW_MAX
        free = self._problem.devices.memory_bytes[device] - self._ranges.fixed[first, end]
        return max(1, min(WINDOW_MAX, int(free) // each))

    def _along(self, group: Sequence[int], split: Split) -> Pipeline:
        return self.pipeline([group[place] for place in split.peers], split.bounds)

    def _choice(self, group: Sequence[int], microbatches: int) -> Split | None:
        """The split with the shortest step; of equals, that of fewest devices."""
        devices, numbers = self._problem.devices, list(group)
        latency_s = devices.latency_s[np.ix_(numbers, numbers)]
        orders = self._orders(numbers)
        key = self._signature(numbers, orders)
        alike = key + latency_s.tobytes()
        if (alike, microbatches) not in self._chosen:
            splits = self._planned(numbers, microbatches, orders, key)
            if not splits:
                return None
            self._chosen[alike, microbatches] = min(splits, key=lambda split: (
                self._along(group, split).seconds(microbatches), len(split.peers)))
        return self._chosen[alike, microbatches]

    def _signature(self, numbers: list[int], orders: list[list[int]]) -> bytes:
        """Equal for groups whose splits are."""
        devices = self._problem.devices
        return b"".join(array.tobytes() for array in (
            np.array(orders), devices.speed[numbers], devices.column[numbers],
            devices.memory_bytes[numbers],
            devices.bandwidth_bytes_per_s[np.ix_(numbers, numbers)]))

    def _planned(
        self, group: Sequence[int], microbatches: int, orders: list[list[int]], signature: bytes
    ) -> list[Split]:
        """For every order and number of stages the split with the fastest bottleneck."""
        most = min(len(group), self._ranges.count)
        held = min(microbatches, most if self._is_training else HELD_FORWARD)
        if (signature, held) not in self._splits:
            splitter = Splitter(self._split_problem(group, held))
            self._splits[signature, held] = [
                split for order in orders for split in splitter.bottleneck(order, most)]
        return self._splits[signature, held]

    def _split_problem(self, group: Sequence[int], held: int) -> SplitProblem:
        devices = self._problem.devices
        occupied, of_link = {}, {}
        for a, b in permutations(range(len(group)), 2):
            there = devices.bandwidth_bytes_per_s[group[a], group[b]]
            back = devices.bandwidth_bytes_per_s[group[b], group[a]]
            if (there, back) not in of_link:
                of_link[there, back] = self._cut_bytes / there + (
                    self._cut_bytes / back if self._is_training else 0.0)
            occupied[a, b] = of_link[there, back]
        return SplitProblem(
            ranges=self._ranges, seconds=[self._seconds(device) for device in group],
            occupied=occupied, delayed={}, microbatches=held,
            memory_bytes=[int(devices.memory_bytes[device]) for device in group])

    def _seconds(self, device: int) -> FloatArray:
        """Forward and backward of every range; infinite for empty ones and those it cannot run."""
        devices = self._problem.devices
        key = int(devices.column[device]), float(devices.speed[device])
        if key not in self._spans:
            node_s = self._problem.load_seconds()[self._problem.graph.topological, device]
            stuck = ~np.isfinite(node_s)
            table = _over_ranges(np.where(stuck, 0.0, node_s))
            table[_over_ranges(stuck.astype(np.float64)) > 0] = np.inf
            table[np.tril_indices(len(table))] = np.inf
            self._spans[key] = table
        return self._spans[key]

    def _orders(self, group: Sequence[int]) -> list[list[int]]:
        """Places in the group: fastest first, most memory first, along good links, as given."""
        devices, places = self._problem.devices, list(range(len(group)))
        speed, memory = devices.speed[list(group)], devices.memory_bytes[list(group)]
        fastest = sorted(places, key=lambda place: (-speed[place], place))
        largest = sorted(places, key=lambda place: (-memory[place], place))
        pairs = np.ix_(list(group), list(group))
        link_s = devices.latency_s[pairs] + (
            self._cut_bytes.mean() / devices.bandwidth_bytes_per_s[pairs])
        orders = [fastest, largest, along_links(link_s, fastest[0]), places]
        return [order for at, order in enumerate(orders) if order not in orders[:at]]


def cut_bytes(problem: MappingProblem) -> FloatArray:
    """Bytes that cross a cut before each place of the chain, [nodes + 1]; none at its ends.

    Raises:
        HomespunError: INVALID_ARGUMENT if the graph is no chain, or has pins or groups.
    """
    graph = problem.graph
    place = places(graph.topological)
    source, target = place[graph.edge_source], place[graph.edge_target]
    if graph.edges != graph.nodes - 1 or (target - source != 1).any():
        raise HomespunError(
            Code.INVALID_ARGUMENT, "The cost graph is no chain: each node but the last must have "
            "one edge, to the node after it. Map it with `dag.portfolio.best_mapping` instead.")
    if graph.groups < graph.nodes or (graph.pin >= 0).any():
        raise HomespunError(
            Code.INVALID_ARGUMENT, "Nodes of the chain are pinned or co-located, which pipelines "
            "do not keep. Remove `pin` and `colocate`.")
    crossing = np.zeros(graph.nodes + 1)
    crossing[target] = graph.tensor_bytes[graph.edge_tensor]
    return crossing


def _ranges(problem: MappingProblem, crossing: FloatArray) -> Ranges:
    """Memory of every range of nodes as a stage."""
    graph, order = problem.graph, problem.graph.topological
    temporary = np.zeros((graph.nodes + 1, graph.nodes + 1))
    for first in range(graph.nodes):
        temporary[first, first + 1:] = np.maximum.accumulate(graph.temporary_bytes[order[first:]])
    live = np.ceil(crossing).astype(np.int64)
    return Ranges(
        count=graph.nodes,
        fixed=np.ceil(_over_ranges(graph.persistent_bytes[order]) + temporary).astype(np.int64),
        per_microbatch=np.ceil(
            _over_ranges(graph.output_bytes[order]) + crossing[:, None]).astype(np.int64),
        live_forward=live, live_backward=live)


def _over_ranges(per_node: FloatArray) -> FloatArray:
    """Sums over nodes i to j - 1, [nodes + 1, nodes + 1]."""
    total = np.concatenate([np.zeros(1), np.cumsum(per_node)])
    table: FloatArray = total[None, :] - total[:, None]
    return table
