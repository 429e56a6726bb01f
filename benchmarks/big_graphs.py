"""Large cost graphs and clusters as descriptions, for `plan_scale.py`; seeded."""

from __future__ import annotations

import random
from collections.abc import Callable

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts

Described = tuple[list[NodeCosts], list[EdgeCosts]]
MEBIBYTE = 2**20
GIBIBYTE = 2**30


def layered(nodes: int, seed: int) -> Described:
    """Layers of 32; each node reads three of the two layers before."""
    draw = random.Random(seed)
    width = 32
    edges = [
        (before, node)
        for node in range(width, nodes)
        for before in sorted(draw.sample(
            range(max(0, (node // width - 2) * width), node // width * width), 3))]
    return _costs(nodes, edges, draw)


def transformer(nodes: int, seed: int) -> Described:
    """Blocks of 24 nodes: four parallel heads and a wide middle between residual additions."""
    draw = random.Random(seed)
    edges: list[tuple[int, int]] = []
    first, carried = 0, -1
    while first + 24 <= nodes:
        edges += _block(first, carried)
        carried = first + 23
        first += 24
    edges += [(node - 1, node) for node in range(max(first, 1), nodes)]
    return _costs(nodes, edges, draw)


def _block(first: int, carried: int) -> list[tuple[int, int]]:
    """Normalise, 4 heads of 4 nodes, project, add; normalise, expand, activate, reduce, add."""
    edges = [(carried, first), (carried, first + 18)] if carried >= 0 else []
    for head in range(4):
        start = first + 1 + 4 * head
        edges += [(first, start), (start, start + 1), (first, start + 2), (start + 1, start + 3),
                  (start + 2, start + 3), (start + 3, first + 17)]
    edges += [(first + 17, first + 18), (first + 18, first + 19), (first + 19, first + 20),
              (first + 20, first + 21), (first + 21, first + 22), (first + 22, first + 23),
              (first + 18, first + 23)]
    return edges


def branches(nodes: int, seed: int) -> Described:
    """Forks into 50 chains of 20 nodes that join again, one after the other."""
    draw = random.Random(seed)
    chains, length = 50, 20
    stride = chains * length + 2
    edges: list[tuple[int, int]] = []
    for node in range(1, nodes):
        fork, place = divmod(node, stride)
        fork *= stride
        if place == 0:
            edges.append((node - 1, node))
        elif place == stride - 1:
            edges += [(fork + length * (chain + 1), node) for chain in range(chains)]
        else:
            edges.append((fork if (place - 1) % length == 0 else node - 1, node))
    return _costs(nodes, edges, draw)


GRAPHS: dict[str, Callable[[int, int], Described]] = {
    "layered": layered, "transformer": transformer, "branches": branches}


def _costs(nodes: int, edges: list[tuple[int, int]], draw: random.Random) -> Described:
    """10 ms of work a node on average at speed 1, 64 KiB to 1 MiB a tensor."""
    sizes = [draw.choice([2**16, 2**18, 2**20]) for _ in range(nodes)]
    described = [
        NodeCosts(id=f"n{node}", compute_s=draw.uniform(0.001, 0.019),
                  persistent_bytes=draw.uniform(0.0, 4.0) * MEBIBYTE, output_bytes=sizes[node],
                  temporary_bytes=draw.uniform(0.0, 1.0) * MEBIBYTE)
        for node in range(nodes)]
    return described, [
        EdgeCosts(src=f"n{a}", dst=f"n{b}", bytes=sizes[a], port="out") for a, b in edges]


def cluster(
    count: int, total_bytes: float, seed: int
) -> tuple[list[DeviceCosts], LinkCosts, dict[tuple[str, str], LinkCosts]]:
    """Homes of ten devices: 1 Gbit/s and 1 ms inside, 100 Mbit/s and 20 ms between.

    Memory is one of 8, 16 and 24 GiB, more where the cluster could otherwise not hold three times
    `total_bytes`; speed one of 0.5, 1, 2 and 4.
    """
    draw = random.Random(seed)
    scale = max(1.0, 3.0 * total_bytes / (count * 8 * GIBIBYTE))
    on = [DeviceCosts(id=f"d{number}", speed=draw.choice([0.5, 1.0, 2.0, 4.0]),
                      memory_bytes=draw.choice([8, 16, 24]) * GIBIBYTE * scale)
          for number in range(count)]
    near = LinkCosts(latency_s=1e-3, bandwidth_bytes_per_s=1e9 / 8)
    links = {
        (on[a].id, on[b].id): near
        for home in range(0, count, 10)
        for a in range(home, min(home + 10, count)) for b in range(home, min(home + 10, count))
        if a != b}
    return on, LinkCosts(latency_s=20e-3, bandwidth_bytes_per_s=1e8 / 8), links
