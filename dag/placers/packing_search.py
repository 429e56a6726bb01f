"""Search all ways to pack where simple rules found no room: small problems get a proof.

Depth first over groups from large to small, each to the device that it fills most first. Devices
that are alike and hold alike are tried once, and a branch ends when the room that is left in total
is too small. The budget counts placed groups, not time.
"""

from __future__ import annotations

import numpy as np

from dag.mapping.judge import makespan
from dag.mapping.memory import ROUNDING, group_costs, group_seconds
from dag.mapping.problem import FloatArray, Mapping, MappingProblem, Unmapped

PLACED_MAX = 200_000
"""Groups that are placed before the search gives up; about a second."""
NAME = "packing-search"


def packing_search(problem: MappingProblem, placed_max: int = PLACED_MAX) -> Mapping | Unmapped:
    """A mapping in which everything finds room; or whether there is none, or none was found.

    Cost: O(placed_max * devices); exponential in the groups without that limit.
    """
    search = _Search(problem, placed_max)
    home = search.run()
    if home is None:
        return Unmapped(
            algorithm=NAME, reason=f"gave up after {placed_max} tries" if search.gave_up
            else "tried every way to pack the nodes: none fits into the devices' memory")
    device = np.array(home, dtype=np.int64)[problem.graph.group]
    return Mapping(algorithm=NAME, device=device, start_s=makespan(problem, device)[1])


class _Search:
    """One search; single use."""

    def __init__(self, problem: MappingProblem, placed_max: int) -> None:
        costs, devices = group_costs(problem.graph), problem.devices
        table: FloatArray = group_seconds(problem, problem.load_seconds())
        self._able = np.isfinite(table)
        pinned = np.flatnonzero(costs.pin >= 0)
        self._able[pinned] &= costs.pin[pinned, None] == np.arange(devices.count)
        self._held, self._temporary = costs.held.tolist(), costs.temporary.tolist()
        self._limit = (devices.memory_bytes * ROUNDING).tolist()
        # Few choices first, then large ones: what is hard to place decides early.
        self._order = np.lexsort(
            (-(costs.held + costs.temporary), self._able.sum(axis=1))).tolist()
        self._kind = [self._able[:, number].tobytes() for number in range(devices.count)]
        self._used = [0.0] * devices.count
        self._largest = [0.0] * devices.count
        self._left = placed_max
        self.gave_up = False

    def run(self) -> list[int] | None:
        """Device of each group."""
        count = len(self._order)
        home = [-1] * count
        before = [(0.0, 0.0)] * count  # what its device held before each group came
        waiting = sum(self._held)
        choices = [self._choices(self._order[0], waiting)]
        while choices:
            depth = len(choices) - 1
            group = self._order[depth]
            if home[group] >= 0:  # back from below: take it off again
                self._used[home[group]], self._largest[home[group]] = before[group]
                waiting += self._held[group]
                home[group] = -1
            if not choices[-1]:
                choices.pop()
                continue
            if self._left == 0:
                self.gave_up = True
                return None
            self._left -= 1
            device = choices[-1].pop()
            home[group], before[group] = device, (self._used[device], self._largest[device])
            self._used[device] += self._held[group]
            self._largest[device] = max(self._largest[device], self._temporary[group])
            waiting -= self._held[group]
            if depth + 1 == count:
                return home
            choices.append(self._choices(self._order[depth + 1], waiting))
        return None

    def _choices(self, group: int, waiting: float) -> list[int]:
        """Devices with room, the fullest last; none if what waits is more than all room."""
        room = sum(
            limit - used - largest
            for limit, used, largest in zip(self._limit, self._used, self._largest, strict=True))
        if waiting > room * (1 + 1e-9):
            return []
        found: dict[tuple[float, float, float, bytes], int] = {}
        rest: list[tuple[float, int]] = []
        for device, limit in enumerate(self._limit):
            largest = max(self._largest[device], self._temporary[group])
            left = limit - self._used[device] - self._held[group] - largest
            alike = (limit, self._used[device], self._largest[device], self._kind[device])
            if left >= 0 and self._able[group, device] and alike not in found:
                found[alike] = device
                rest.append((left, device))
        return [device for _, device in sorted(rest, key=lambda one: (-one[0], -one[1]))]
