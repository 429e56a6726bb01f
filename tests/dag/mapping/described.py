"""Cost graphs and clusters as JSON values, for the tests of reading and of the command."""

from __future__ import annotations

import json
from typing import Any


def graph_value() -> dict[str, Any]:
    """Three nodes: one with seconds by device, two that stay together."""
    return {
        "schema": "homespun.cost-graph/1",
        "nodes": [
            {"id": "embed", "compute_s": 0.5, "persistent_bytes": 100, "output_bytes": 10,
             "colocate": "tied"},
            {"id": "middle", "compute_s": {"fast": 1.0, "slow": 4.0},
             "backward_s": {"fast": 2.0, "slow": 8.0}, "temporary_bytes": 5},
            {"id": "head", "compute_s": 0.25, "backward_s": 0.5, "colocate": "tied",
             "pin": "fast"}],
        "edges": [
            {"src": "embed", "dst": "middle", "bytes": 10, "port": "out",
             "transfer_s": {"fast->slow": 0.125}},
            {"src": "middle", "dst": "head", "bytes": 20}],
    }


def cluster_value() -> dict[str, Any]:
    """Two devices; one link of its own, the default for the other."""
    return {
        "schema": "homespun.cluster/1",
        "devices": [{"id": "fast", "speed": 2.0, "memory_bytes": 1000},
                    {"id": "slow", "memory_bytes": 2000.0}],
        "links": [{"src": "fast", "dst": "slow", "latency_s": 0.5, "bandwidth_bytes_per_s": 10}],
        "default_link": {"latency_s": 0.25, "bandwidth_bytes_per_s": 100},
        "channels": "serial",
    }


def toy(memory_bytes: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first toy graph of the Baechi repository, on two devices, restated."""
    seconds = {"0": 1, "1": 3, "2": 3, "3": 1, "4": 3, "5": 1}
    held = {"0": 1, "1": 2, "2": 2, "3": 1, "4": 1, "5": 1}
    edges = [("0", "1"), ("0", "4"), ("1", "2"), ("2", "3"), ("4", "5"), ("5", "3")]
    graph = {
        "schema": "homespun.cost-graph/1",
        "nodes": [{"id": name, "compute_s": time, "persistent_bytes": held[name]}
                  for name, time in seconds.items()],
        "edges": [{"src": source, "dst": target, "bytes": 1} for source, target in edges]}
    cluster = {
        "schema": "homespun.cluster/1",
        "devices": [{"id": f"d{number}", "memory_bytes": memory_bytes} for number in range(2)],
        "default_link": {"latency_s": 0, "bandwidth_bytes_per_s": 1}}
    return graph, cluster


BAD: list[tuple[str, str, Any, str]] = [
    # which file, where in it, what stands there (... removes it), what the message names
    ("graph", "schema", "homespun.cost-graph/2", "schema"),
    ("graph", "schema", ..., "schema"),
    ("graph", "schema", 1, "schema"),
    ("graph", "nodes", [], "nodes"),
    ("graph", "nodes", ..., "nodes"),
    ("graph", "nodes", {"a": 1}, "nodes"),
    ("graph", "node", [], "node"),
    ("graph", "nodes.0", 5, "nodes[0]"),
    ("graph", "nodes.2.id", "embed", "nodes[2].id"),
    ("graph", "nodes.2.id", "", "nodes[2].id"),
    ("graph", "nodes.2.id", 7, "nodes[2].id"),
    ("graph", "nodes.2.id", "\ud800", "nodes[2].id"),
    ("graph", "nodes.2.id", ..., "nodes[2].id"),
    ("graph", "nodes.0.compute_s", ..., "nodes[0].compute_s"),
    ("graph", "nodes.0.compute_s", -1, "nodes[0].compute_s"),
    ("graph", "nodes.0.compute_s", float("nan"), "nodes[0].compute_s"),
    ("graph", "nodes.0.compute_s", float("inf"), "nodes[0].compute_s"),
    ("graph", "nodes.0.compute_s", 10**400, "nodes[0].compute_s"),
    ("graph", "nodes.0.compute_s", True, "nodes[0].compute_s"),
    ("graph", "nodes.0.compute_s", "0.5", "nodes[0].compute_s"),
    ("graph", "nodes.0.compute_s", {}, "nodes[0].compute_s"),
    ("graph", "nodes.0.compute_s", [0.5], "nodes[0].compute_s"),
    ("graph", "nodes.1.compute_s", {"fast": 1, "gone": 1}, "nodes[1].compute_s['gone']"),
    ("graph", "nodes.1.compute_s", {"fast": -1}, "nodes[1].compute_s['fast']"),
    ("graph", "nodes.1.compute_s", {"fast": None}, "nodes[1].compute_s['fast']"),
    ("graph", "nodes.1.backward_s", float("-inf"), "nodes[1].backward_s"),
    ("graph", "nodes.1.backward_s", {"fast": "x"}, "nodes[1].backward_s['fast']"),
    ("graph", "nodes.0.persistent_bytes", -1, "nodes[0].persistent_bytes"),
    ("graph", "nodes.0.output_bytes", float("nan"), "nodes[0].output_bytes"),
    ("graph", "nodes.1.temporary_bytes", "5", "nodes[1].temporary_bytes"),
    ("graph", "nodes.0.compute", 1, "nodes[0].compute"),
    ("graph", "nodes.0.colocate", 3, "nodes[0].colocate"),
    ("graph", "nodes.0.pin", "gone", "nodes[0].pin"),
    ("graph", "nodes.0.pin", "slow", "nodes[2].pin"),
    ("graph", "edges", {"src": "embed"}, "edges"),
    ("graph", "edges.0.src", "gone", "edges[0].src"),
    ("graph", "edges.1.dst", ..., "edges[1].dst"),
    ("graph", "edges.1.dst", "embed", "edges[1]"),
    ("graph", "edges.1.dst", "middle", "edges[1]"),
    ("graph", "edges.0.bytes", -1, "edges[0].bytes"),
    ("graph", "edges.0.bytes", ..., "edges[0].bytes"),
    ("graph", "edges.0.port", 1.5, "edges[0].port"),
    ("graph", "edges.0.transfer_s", 1.0, "edges[0].transfer_s"),
    ("graph", "edges.0.transfer_s", {"fast-slow": 1}, "edges[0].transfer_s['fast-slow']"),
    ("graph", "edges.0.transfer_s", {"fast->gone": 1}, "edges[0].transfer_s['fast->gone']"),
    ("graph", "edges.0.transfer_s", {"fast->slow": -1}, "edges[0].transfer_s['fast->slow']"),
    ("cluster", "schema", "homespun.fleet/1", "schema"),
    ("cluster", "devices", [], "devices"),
    ("cluster", "devices", ..., "devices"),
    ("cluster", "devices.1.id", "fast", "devices[1].id"),
    ("cluster", "devices.0.speed", 0, "devices[0].speed"),
    ("cluster", "devices.0.speed", -2.0, "devices[0].speed"),
    ("cluster", "devices.0.memory_bytes", ..., "devices[0].memory_bytes"),
    ("cluster", "devices.0.memory_bytes", -1, "devices[0].memory_bytes"),
    ("cluster", "devices.0.memory_byte", 1, "devices[0].memory_byte"),
    ("cluster", "links.0.src", "gone", "links[0].src"),
    ("cluster", "links.0.latency_s", float("nan"), "links[0].latency_s"),
    ("cluster", "links.0.latency_s", ..., "links[0].latency_s"),
    ("cluster", "links.0.bandwidth_bytes_per_s", 0, "links[0].bandwidth_bytes_per_s"),
    ("cluster", "default_link", ..., "default_link"),
    ("cluster", "default_link", {"latency_s": 1}, "default_link.bandwidth_bytes_per_s"),
    ("cluster", "default_link.latency_s", -1, "default_link.latency_s"),
    ("cluster", "channels", "parallel", "channels"),
    ("cluster", "channel", "serial", "channel"),
]


def spoilt(which: str, where: str, value: Any) -> tuple[bytes, bytes]:
    """Both files, with one value changed or removed."""
    files = {"graph": graph_value(), "cluster": cluster_value()}
    *path, last = [int(part) if part.isdigit() else part for part in where.split(".")]
    holder: Any = files[which]
    for part in path:
        holder = holder[part]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return encoded(files["graph"]), encoded(files["cluster"])


def encoded(value: Any) -> bytes:
    """JSON as Python writes it, NaN and Infinity included."""
    return json.dumps(value).encode()
