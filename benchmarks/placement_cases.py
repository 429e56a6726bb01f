"""What `placement.py` plans: published profiles, and three fleets.

Profiles: `profiler/**/graph.txt` of PipeDream's repository (github.com/msr-fiddle/pipedream, MIT):
milliseconds forward and backward, activation and parameter bytes of one batch on the authors' GPU.
How a line becomes a node:

  compute_s, backward_s   as profiled; 0 for Input nodes, whose time is data loading
  output_bytes            activation_size, summed where it is a list: kept for the backward pass
  persistent_bytes        3 x parameter_size: weights, gradients and a momentum, since the profiles
                          are of training; the same for both objectives
  edge bytes              activation_size of the source: one tensor to all its readers
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.coarsen import coarsened
from dag.mapping.problem import LATENCY, THROUGHPUT, CostGraph, MappingProblem, Objective

SOURCE = "PipeDream's repository (github.com/msr-fiddle/pipedream), profiler/*/profiles"
STATE_PER_PARAMETER = 3
NODE = re.compile(
    r"(?P<id>\S+) -- (?P<name>.*) -- forward_compute_time=(?P<forward>[\d.]+), "
    r"backward_compute_time=(?P<backward>[\d.]+), activation_size=(?P<activation>\[.*\]|[\d.]+), "
    r"parameter_size=(?P<parameter>[\d.]+)$")
EDGE = re.compile(r"\t(?P<src>\S+) -- (?P<dst>\S+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One network."""

    name: str
    nodes: tuple[NodeCosts, ...]
    edges: tuple[EdgeCosts, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One cluster.

    Attributes:
        name: short.
        text: what it is, for a person.
    """

    name: str
    text: str
    on: tuple[DeviceCosts, ...]
    default: LinkCosts
    links: dict[tuple[str, str], LinkCosts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table."""

    network: str
    fleet: str
    problem: MappingProblem


def profiles(root: Path) -> list[Profile]:
    """All profiles under a folder, smallest first."""
    found = [read_profile(path) for path in sorted(root.rglob("graph.txt"))]
    return sorted(found, key=lambda profile: (len(profile.nodes), profile.name))


def read_profile(path: Path) -> Profile:
    """One `graph.txt`, named after its folder.

    Raises:
        ValueError: names the line that is neither a node nor an edge.
    """
    nodes: dict[str, NodeCosts] = {}
    ends: list[tuple[str, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if edge := EDGE.match(line):
            ends.append((edge["src"], edge["dst"]))
        elif node := NODE.match(line):
            nodes[node["id"]] = _node(node)
        else:
            raise ValueError(f"{path}:{number}: neither a node nor an edge: {line[:80]!r}")
    edges = tuple(
        EdgeCosts(src=src, dst=dst, bytes=nodes[src].output_bytes) for src, dst in ends)
    return Profile(name=path.parent.name, nodes=tuple(nodes.values()), edges=edges)


def _node(line: re.Match[str]) -> NodeCosts:
    read = not line["name"].startswith("Input")
    return NodeCosts(
        id=line["id"],
        compute_s=float(line["forward"]) / 1e3 * read,
        backward_s=float(line["backward"]) / 1e3 * read,
        output_bytes=sum(float(size) for size in re.findall(r"[\d.]+", line["activation"])),
        persistent_bytes=STATE_PER_PARAMETER * float(line["parameter"]))


def fleets() -> list[Fleet]:
    """Four GPUs in one machine, four machines of a cluster, eight homes."""
    return [
        Fleet(
            name="pcie", text="4 equal GPUs of 8 GB in one machine: 12 GB/s, 10 us",
            on=tuple(DeviceCosts(id=f"gpu{n}", memory_bytes=8e9) for n in range(4)),
            default=LinkCosts(latency_s=10e-6, bandwidth_bytes_per_s=12e9), links={}),
        Fleet(
            name="cluster", text="4 machines with one GPU of 11 GB: 10 Gbit/s, 100 us",
            on=tuple(DeviceCosts(id=f"node{n}", memory_bytes=11e9) for n in range(4)),
            default=LinkCosts(latency_s=100e-6, bandwidth_bytes_per_s=1.25e9), links={}),
        _homes()]


HOMES = (
    # name, speed, memory in GB, Mbit/s up, Mbit/s down, ms to the exchange
    ("m40", 0.5, 24.0, 1000.0, 1000.0, 2.5),
    ("rtx3080", 1.5, 10.0, 500.0, 1000.0, 5.0),
    ("rtx4070", 1.6, 12.0, 200.0, 1000.0, 10.0),
    ("rtx3060", 0.7, 12.0, 1000.0, 1000.0, 2.5),
    ("rtx2080", 1.0, 8.0, 100.0, 500.0, 15.0),
    ("rtx3060ti", 0.9, 8.0, 300.0, 300.0, 7.5),
    ("rtx4080", 2.0, 16.0, 100.0, 250.0, 30.0),
    ("rtx2060", 0.6, 6.0, 100.0, 100.0, 30.0),
)


def _homes() -> Fleet:
    """The sender's uplink or the receiver's downlink is the rate; both ways to the exchange add."""
    links = {
        (a[0], b[0]): LinkCosts(
            latency_s=(a[5] + b[5]) / 1e3, bandwidth_bytes_per_s=min(a[3], b[4]) * 1e6 / 8)
        for a in HOMES for b in HOMES if a is not b}
    return Fleet(
        name="homes", text="8 mixed GPUs of 6-24 GB, speed 0.5-2.0: 100 Mbit/s-1 Gbit/s, 5-60 ms",
        on=tuple(DeviceCosts(id=name, memory_bytes=gigabytes * 1e9, speed=speed)
                 for name, speed, gigabytes, *_ in HOMES),
        default=next(iter(links.values())), links=links)


def cases(profile: Profile, nodes: int | None = None) -> Iterator[Case]:
    """Every fleet, channel and objective.

    Args:
        profile: the network.
        nodes: merge its nodes until about so many are left.
    """
    name = profile.name if nodes is None else f"{profile.name}~{nodes}"
    for fleet in fleets():
        graph: CostGraph = cost_graph(profile.nodes, profile.edges, fleet.on)[0]
        if nodes is not None:
            graph = coarsened(graph, nodes).graph
        for serial in (False, True):
            on = devices(fleet.on, fleet.default, fleet.links, serial=serial)
            problem = MappingProblem(graph=graph, devices=on, objective=LATENCY)
            for objective in OBJECTIVES:
                yield Case(network=name, fleet=fleet.name,
                           problem=replace(problem, objective=objective))


OBJECTIVES: tuple[Objective, ...] = (LATENCY, THROUGHPUT)
