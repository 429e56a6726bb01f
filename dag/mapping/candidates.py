"""Choose a promising few of many devices, before a search that looks at every pair.

A set grows from a seed: next comes the device on which an equal share of the work, and the transfer
of a usual tensor from the nearest device of the set, take least. So fast devices come first, and
with them those that they reach well. Of the sets grown from several seeds the one of the highest
total rate is taken, then devices are added until memory and abilities suffice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dag.mapping.problem import (
    LATENCY,
    BoolArray,
    FloatArray,
    IntArray,
    Mapping,
    MappingProblem,
)
from dag.placement import Refusal

SEEDS = 4
"""Sets are grown from so many of the fastest devices, and of the best connected ones."""
SLACK = 1.25
"""Memory of the chosen devices together, in multiples of what the graph needs."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Chosen:
    """Some of a cluster's devices.

    Attributes:
        devices: their numbers, those that nodes are pinned to before the others, then the most
            promising first; each prefix is a good smaller set.
        left_out: why each of the others is not among them: rule `memory` (bytes of the least node,
            and of the device), `speed` (seconds of a share of the work) or `link` (the same with a
            transfer); wanted is what the last chosen device takes.
    """

    devices: IntArray
    left_out: tuple[Refusal, ...]


def chosen_devices(problem: MappingProblem, most: int) -> Chosen:
    """Choose about `most` devices.

    More are chosen if memory, pins or nodes that few devices can run need them.

    Args:
        problem: the problem.
        most: wished number, >= 1.

    Cost: O(devices * devices + devices * chosen * SEEDS + cells of the graph's table of seconds).
    """
    graph, on = problem.graph, problem.devices
    held = graph.persistent_bytes + graph.output_bytes + graph.temporary_bytes
    least = float(held.min(initial=np.inf)) if graph.nodes else 0.0
    share_s = _share_seconds(problem, min(most, on.count))
    hop_s = _hop_seconds(problem)
    usable = (on.memory_bytes >= least) & np.isfinite(share_s)
    grown = [_grown(seed, share_s, hop_s, usable, most) for seed in _seeds(share_s, hop_s, usable)]
    taken: list[int] = max(grown, key=lambda found: found[1])[0] if grown else []
    taken = _sufficient(problem, taken, usable, share_s)
    devices = np.array(taken, dtype=np.int64)
    return Chosen(
        devices=devices, left_out=_left_out(problem, devices, share_s, hop_s, least))


def restricted(problem: MappingProblem, devices: IntArray) -> MappingProblem:
    """The same problem on some of its devices, in the order given.

    Args:
        problem: the problem.
        devices: distinct numbers; all that nodes are pinned to must be among them.
    """
    on, graph = problem.devices, problem.graph
    columns, column = np.unique(on.column[devices], return_inverse=True)
    place = np.full(on.count + 1, -1, dtype=np.int64)
    place[devices] = np.arange(len(devices))
    pairs = np.ix_(devices, devices)
    override_s = graph.override_s
    if len(override_s):
        override_s = override_s[:, devices][:, :, devices]
    return replace(
        problem,
        graph=replace(
            graph, compute_s=graph.compute_s[:, columns], backward_s=graph.backward_s[:, columns],
            pin=place[graph.pin], override_s=override_s),
        devices=replace(
            on, ids=tuple(on.ids[number] for number in devices.tolist()),
            speed=on.speed[devices], column=column.astype(np.int64),
            memory_bytes=on.memory_bytes[devices], latency_s=on.latency_s[pairs],
            bandwidth_bytes_per_s=on.bandwidth_bytes_per_s[pairs]))


def widened(mapping: Mapping, devices: IntArray) -> Mapping:
    """A mapping onto restricted devices as one onto all."""
    return replace(mapping, device=devices[mapping.device])


def work_table(problem: MappingProblem) -> FloatArray:
    """Seconds at speed 1 that count for the objective, [nodes, columns]."""
    graph = problem.graph
    if problem.objective == LATENCY:
        return graph.compute_s
    return graph.compute_s + graph.backward_s


def _share_seconds(problem: MappingProblem, shares: int) -> FloatArray:
    """Time of one of `shares` equal shares of the work on each device, [devices]."""
    table = work_table(problem)
    finite = np.isfinite(table)
    able = finite.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(finite, table, 0.0).sum(axis=0) / able
    total = np.where(able > 0, mean * problem.graph.nodes, np.inf)
    share: FloatArray = total[problem.devices.column] / problem.devices.speed / shares
    return share


def _hop_seconds(problem: MappingProblem) -> FloatArray:
    """What a usual tensor between two devices adds to a share, [devices, devices], symmetric.

    Half of both ways for latency; both ways over serial channels for throughput, where each device
    receives and sends; nothing for throughput over channels that do not contend.
    """
    on = problem.devices
    sizes = problem.graph.tensor_bytes
    usual = float(sizes.mean()) if len(sizes) else 0.0
    one_way = on.latency_s + usual / on.bandwidth_bytes_per_s
    both: FloatArray = one_way + one_way.T
    if problem.objective == LATENCY:
        return both / 2.0
    return both if on.serial else np.zeros_like(both)


def _seeds(share_s: FloatArray, hop_s: FloatArray, usable: BoolArray) -> list[int]:
    """The fastest devices, and those whose speed and nearest neighbours together are best."""
    able = np.flatnonzero(usable)
    near = min(8, len(able) - 1)
    nearest = np.zeros(len(share_s))
    if near > 0:
        among = hop_s[np.ix_(able, able)]
        np.fill_diagonal(among, np.inf)
        nearest[able] = np.partition(among, near - 1, axis=1)[:, :near].mean(axis=1)
    by_speed = able[np.argsort(share_s[able], kind="stable")][:SEEDS]
    by_place = able[np.argsort((share_s + nearest)[able], kind="stable")][:SEEDS]
    return list(dict.fromkeys([*by_speed.tolist(), *by_place.tolist()]))


def _grown(
    seed: int, share_s: FloatArray, hop_s: FloatArray, usable: BoolArray, most: int
) -> tuple[list[int], float]:
    """A set grown from a device, and its rate: the sum of what each adds, in shares a second."""
    taken, rate = [seed], 1.0 / max(float(share_s[seed]), 1e-300)
    open_ = usable.copy()
    open_[seed] = False
    reach = hop_s[seed].copy()
    while len(taken) < most and open_.any():
        seconds = np.where(open_, share_s + reach, np.inf)
        best = int(np.argmin(seconds))
        taken.append(best)
        rate += 1.0 / max(float(seconds[best]), 1e-300)
        open_[best] = False
        reach = np.minimum(reach, hop_s[best])
    return taken, rate


def _sufficient(
    problem: MappingProblem, taken: list[int], usable: BoolArray, share_s: FloatArray
) -> list[int]:
    """With devices for pins, for nodes that none can run yet, and for enough memory."""
    graph, on = problem.graph, problem.devices
    chosen = dict.fromkeys([*np.unique(graph.pin[graph.pin >= 0]).tolist(), *taken])
    finite = np.isfinite(graph.compute_s + graph.backward_s)
    missing = ~finite[:, on.column[list(chosen)]].any(axis=1)
    while missing.any():
        helps = finite[missing][:, on.column].sum(axis=0) * usable
        best = int(np.lexsort((share_s, -helps))[0])
        if not helps[best]:
            break
        chosen[best] = None
        missing &= ~finite[:, on.column[best]]
    need = SLACK * float((graph.persistent_bytes + graph.output_bytes).sum())
    had = float(on.memory_bytes[list(chosen)].sum())
    for device in np.argsort(-on.memory_bytes, kind="stable").tolist():
        if had >= need:
            break
        if device not in chosen and usable[device]:
            chosen[device] = None
            had += float(on.memory_bytes[device])
    return list(chosen)


def _left_out(
    problem: MappingProblem, devices: IntArray, share_s: FloatArray, hop_s: FloatArray,
    least: float,
) -> tuple[Refusal, ...]:
    on = problem.devices
    others = np.setdiff1d(np.arange(on.count), devices)
    if not len(devices):
        return tuple(_refused(on.ids[number], "memory", least, float(on.memory_bytes[number]))
                     for number in others.tolist())
    reach = hop_s[devices].min(axis=0)
    worst_share = float(share_s[devices].max())
    among = hop_s[np.ix_(devices, devices)] + np.where(np.eye(len(devices), dtype=bool), np.inf, 0)
    nearest = np.where(len(devices) > 1, among.min(axis=1), 0.0)
    worst = float((share_s[devices] + nearest).max())
    return tuple(
        _refused(on.ids[number], "memory", least, float(on.memory_bytes[number]))
        if on.memory_bytes[number] < least
        else _refused(on.ids[number], "speed", worst_share, float(share_s[number]))
        if share_s[number] >= worst_share
        else _refused(on.ids[number], "link", worst, float(share_s[number] + reach[number]))
        for number in others.tolist())


def _refused(name: str, rule: str, wanted: float, had: float) -> Refusal:
    said = {
        "memory": f"has {had:g} bytes and the least node takes {wanted:g}",
        "speed": f"takes {had:g} s for a share of the work; the slowest chosen one {wanted:g} s",
        "link": f"takes {had:g} s for a share and its transfer; the last chosen one {wanted:g} s"}
    return Refusal(subject=name, rule=rule, wanted=wanted, had=had,
                   text=f"Device '{name}' {said[rule]}.")
