"""The event-driven schedule in plain Python, everything computed anew each time: an oracle."""

from __future__ import annotations

from collections import defaultdict
from math import inf, isfinite

from dag.mapping.problem import MappingProblem


class PlainSchedule:
    """One run; `device` and `start` hold what was started."""

    def __init__(self, problem: MappingProblem, rank: list[int], favourite: list[int]) -> None:
        self.problem, self.rank, self.favourite = problem, rank, favourite
        self.graph, self.devices = problem.graph, range(problem.devices.count)
        self.seconds = problem.seconds().tolist()
        self.group = problem.graph.group.tolist()
        self.tensors: dict[int, dict[int, list[int]]] = defaultdict(dict)
        for edge in range(self.graph.edges):
            source, target = int(self.graph.edge_source[edge]), int(self.graph.edge_target[edge])
            carried = self.tensors[target].setdefault(source, [])
            if int(self.graph.edge_tensor[edge]) not in carried:
                carried.append(int(self.graph.edge_tensor[edge]))
        self.device: dict[int, int] = {}
        self.start: dict[int, float] = {}
        self.done: set[int] = set()
        self.home = {
            self.group[n]: int(pin) for n, pin in enumerate(self.graph.pin) if pin >= 0}
        self.free = [0.0 for _ in self.devices]
        self.channel = [0.0 for _ in self.devices]
        self.arrived: dict[tuple[int, int], float] = {}
        self.last = [-1 for _ in self.devices]

    def run(self) -> None:
        now = 0.0
        while isfinite(now):
            for at in self.devices:
                if self.last[at] >= 0 and self.free[at] <= now:
                    self.done.add(self.last[at])
                self.free[at] = max(self.free[at], now)
            while True:
                offers = [(at, self.offer(at, now)) for at in self.devices if not self.busy(at)]
                startable = [(self.rank[node], at, node)
                             for at, (node, when) in offers if when <= now]
                if not startable:
                    break
                _, at, node = min(startable)
                self.begin(node, at)
            now = min([self.free[at] for at in self.devices if self.busy(at)]
                      + [when for _, (_, when) in offers], default=inf)

    def busy(self, at: int) -> bool:
        return self.last[at] >= 0 and self.last[at] not in self.done

    def ready(self) -> list[int]:
        return [node for node in range(self.graph.nodes)
                if node not in self.device and all(u in self.done for u in self.tensors[node])]

    def offer(self, at: int, now: float) -> tuple[int, float]:
        ready = self.ready()
        child = self.favourite[self.last[at]] if self.last[at] >= 0 else -1
        here = self.when(child, at) if child in ready else inf
        if child in ready and self.group[child] not in self.home and isfinite(here) and (
                here == min(self.when(child, there) for there in self.devices)):
            able = [node for node in ready if isfinite(self.when(node, at))]
            urgent_s, _, urgent = min((self.everywhere(n), self.rank[n], n) for n in able)
            return (urgent, urgent_s) if urgent_s <= now else (child, min(here, urgent_s))
        when, _, node = min(
            ((self.when(n, at), self.rank[n], n) for n in ready), default=(inf, 0, -1))
        return node, when

    def everywhere(self, node: int) -> float:
        return max(w for w in (self.when(node, there) for there in self.devices) if isfinite(w))

    def when(self, node: int, at: int) -> float:
        if not self.may_run(node, at):
            return inf
        latest = 0.0
        for source, carried in self.tensors[node].items():
            there, end = self.device[source], self.end(source)
            latest = max(latest, end)
            lacking = 0.0
            for tensor in carried if there != at else []:
                taken = self.problem.transfer_seconds(tensor, there, at)
                if not self.problem.devices.serial:
                    latest = max(latest, end + taken)
                elif (tensor, at) in self.arrived:
                    latest = max(latest, self.arrived[tensor, at])
                else:
                    lacking += taken
            if lacking:
                latest = max(latest, max(end, self.channel[there], self.channel[at]) + lacking)
        return max(latest, self.free[at])

    def may_run(self, node: int, at: int) -> bool:
        group = self.group[node]
        if group in self.home:
            return self.home[group] == at
        if not all(isfinite(self.seconds[n][at]) for n in self.members({group})):
            return False
        there = self.members({g for g, home in self.home.items() if home == at} | {group})
        held = sum(self.graph.persistent_bytes[n] + self.graph.output_bytes[n] for n in there)
        largest = max(self.graph.temporary_bytes[n] for n in there)
        return bool(held + largest <= self.problem.devices.memory_bytes[at] * (1 + 1e-12))

    def members(self, groups: set[int]) -> list[int]:
        return [n for n in range(self.graph.nodes) if self.group[n] in groups]

    def end(self, node: int) -> float:
        return self.start[node] + self.seconds[node][self.device[node]]

    def begin(self, node: int, at: int) -> None:
        begin = self.when(node, at)
        if self.problem.devices.serial:
            begin = self.receive(node, at)
        self.home[self.group[node]] = at
        self.device[node], self.start[node] = at, begin
        self.free[at], self.last[at] = self.end(node), node

    def receive(self, node: int, at: int) -> float:
        latest = self.free[at]
        for source, carried in self.tensors[node].items():
            there, end = self.device[source], self.end(source)
            latest = max(latest, end)
            for tensor in carried if there != at else []:
                if (tensor, at) not in self.arrived:
                    taken = self.problem.transfer_seconds(tensor, there, at)
                    sent = max(end, self.channel[there])
                    received = max(sent, self.channel[at])
                    self.channel[there] = sent + taken
                    self.channel[at] = self.arrived[tensor, at] = received + taken
                latest = max(latest, self.arrived[tensor, at])
        return latest
