"""Read a cost graph and a cluster from JSON (`docs/cost-graph.md`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dag.json_fields import Fields, is_number, number_expected, parse, refuse, shown
from dag.mapping.build import (
    DeviceCosts,
    EdgeCosts,
    LinkCosts,
    NodeCosts,
    Seconds,
    cost_graph,
    devices,
)
from dag.mapping.cycle import find_cycle
from dag.mapping.problem import Devices, MappingProblem, Objective
from homespun.errors import Code, HomespunError

GRAPH_SCHEMA = "homespun.cost-graph/1"
CLUSTER_SCHEMA = "homespun.cluster/1"
MAX_BYTES = 512 * 2**20
"""Of one file: the links of a thousand devices take about a hundred megabytes."""
MAX_NODES = 200_000
MAX_EDGES = 2_000_000
MAX_DEVICES = 2_000
MAX_CELLS = 2**26
"""Of a table by node and device, or by tensor and pair of devices: half a gigabyte."""

ARROW = "->"
_GRAPH = frozenset({"schema", "nodes", "edges"})
_NODE = frozenset({
    "id", "compute_s", "backward_s", "persistent_bytes", "output_bytes", "temporary_bytes",
    "colocate", "pin"})
_EDGE = frozenset({"src", "dst", "bytes", "port", "transfer_s"})
_CLUSTER = frozenset({"schema", "devices", "links", "default_link", "channels"})
_DEVICE = frozenset({"id", "speed", "memory_bytes"})
_LINK = frozenset({"src", "dst", "latency_s", "bandwidth_bytes_per_s"})
_DEFAULT_LINK = frozenset({"latency_s", "bandwidth_bytes_per_s"})


def read_problem(
    graph: bytes, cluster: bytes, objective: Objective, *,
    graph_source: str = "graph", cluster_source: str = "cluster",
) -> MappingProblem:
    """The mapping problem that two JSON texts describe.

    Args:
        graph: a cost graph.
        cluster: its devices and links.
        objective: what to optimise.
        graph_source: what to call the first text in messages, such as its file's name.
        cluster_source: likewise the second.

    Raises:
        HomespunError: INVALID_ARGUMENT names the field with its place, what was expected, and what
            to do; for texts over `MAX_BYTES`, too.

    Cost: linear in the texts; memory nodes * devices where seconds are given by device.
    """
    described = _Cluster(_whole(cluster, cluster_source, CLUSTER_SCHEMA, _CLUSTER), cluster_source)
    whole = _whole(graph, graph_source, GRAPH_SCHEMA, _GRAPH)
    nodes = list(_nodes(whole, described.place))
    edges = list(_edges(whole, {node.id for node in nodes}, described.place))
    _check_groups(nodes, graph_source)
    _check_cells(nodes, edges, len(described.devices), graph_source)
    _check_acyclic(nodes, edges, graph_source)
    arrays, by_device = cost_graph(nodes, edges, described.devices)
    return MappingProblem(
        graph=arrays, devices=described.arrays(by_device=by_device), objective=objective)


def _whole(data: bytes, source: str, schema: str, known: frozenset[str]) -> Fields:
    if len(data) > MAX_BYTES:
        raise _invalid(f"{source} has {len(data)} bytes; at most {MAX_BYTES} are read.")
    value = parse(data, source)
    if isinstance(value, dict) and value.get("schema") != schema:
        # Before unknown fields: somebody may have swapped the two files.
        Fields({"schema": value.get("schema")}, source, "", known).refuse(
            "schema", f'"{schema}"', "Give the right file, or convert it to this schema.")
    return Fields(value, source, "", known)


class _Cluster:
    """Checked devices and links."""

    def __init__(self, whole: Fields, source: str) -> None:
        self._source = source
        self.devices: list[DeviceCosts] = []
        self.place: dict[str, int] = {}
        for fields in whole.objects("devices", _DEVICE, at_most=MAX_DEVICES, at_least=1):
            name = _new_id(fields, self.place)
            self.devices.append(DeviceCosts(
                id=name, memory_bytes=fields.number("memory_bytes", unit="bytes"),
                speed=fields.number("speed", 1.0, unit="times the speed 1.0", positive=True)))
        self._serial = whole.choice("channels", ("overlap", "serial"), "overlap") == "serial"
        self._links = self._read_links(whole)
        self._default = (
            _link(Fields(whole.value("default_link"), source, "default_link", _DEFAULT_LINK))
            if whole.has("default_link") else None)
        if self._default is None:
            self._check_complete(whole)

    def arrays(self, *, by_device: bool) -> Devices:
        """As the planner takes them."""
        default = self._default or LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)
        return devices(self.devices, default, self._links, serial=self._serial,
                       by_device=by_device)

    def _read_links(self, whole: Fields) -> dict[tuple[str, str], LinkCosts]:
        found: dict[tuple[str, str], LinkCosts] = {}
        pairs = len(self.devices) ** 2
        for fields in whole.objects("links", _LINK, at_most=pairs):
            ends = (_known_id(fields, "src", self.place, "device"),
                    _known_id(fields, "dst", self.place, "device"))
            if ends in found:
                fields.refuse("dst", "each ordered pair of devices once", "Remove one of the two.")
            found[ends] = _link(fields)
        return found

    def _check_complete(self, whole: Fields) -> None:
        """Without a default every pair has a link."""
        count = len(self.devices)
        if sum(source != target for source, target in self._links) == count * (count - 1):
            return
        there, here = next(
            (there, here) for there in self.place for here in self.place
            if there != here and (there, here) not in self._links)
        whole.refuse(
            "default_link", f"latency_s and bandwidth_bytes_per_s of the pairs that links do not "
            f"name, such as '{shown(there)}' to '{shown(here)}'")


def _link(fields: Fields) -> LinkCosts:
    return LinkCosts(
        latency_s=fields.number("latency_s", unit="seconds"),
        bandwidth_bytes_per_s=fields.number(
            "bandwidth_bytes_per_s", unit="bytes per second", positive=True))


def _nodes(whole: Fields, device_place: Mapping[str, int]) -> Iterator[NodeCosts]:
    place: dict[str, int] = {}
    for fields in whole.objects("nodes", _NODE, at_most=MAX_NODES, at_least=1):
        yield NodeCosts(
            id=_new_id(fields, place),
            compute_s=_seconds(fields, "compute_s", device_place),
            backward_s=_seconds(fields, "backward_s", device_place)
            if fields.has("backward_s") else 0.0,
            persistent_bytes=fields.number("persistent_bytes", 0.0, unit="bytes"),
            output_bytes=fields.number("output_bytes", 0.0, unit="bytes"),
            temporary_bytes=fields.number("temporary_bytes", 0.0, unit="bytes"),
            colocate=fields.text("colocate", ""),
            pin=_known_id(fields, "pin", device_place, "device") if fields.has("pin") else "")


def _seconds(fields: Fields, name: str, device_place: Mapping[str, int]) -> Seconds:
    """One number, or one by device id."""
    value = fields.value(name)
    if is_number(value):
        return float(value)  # type: ignore[arg-type]
    if type(value) is not dict or not value:
        fields.refuse(
            name, f"{number_expected('seconds')}, or an object of them by device id")
    for device, seconds in value.items():
        if device not in device_place:
            fields.refuse_entry(
                name, device, f"a device of the cluster: {_some(device_place)}",
                "Correct the device id, or remove it.")
        if not is_number(seconds):
            fields.refuse_entry(
                name, device, number_expected("seconds"),
                "Correct it, or remove it if that device cannot run the node.")
    return {device: float(seconds) for device, seconds in value.items()}


def _edges(
    whole: Fields, nodes: set[str], device_place: Mapping[str, int]
) -> Iterator[EdgeCosts]:
    sizes: dict[tuple[str, str], float] = {}
    for fields in whole.objects("edges", _EDGE, at_most=MAX_EDGES):
        edge = EdgeCosts(
            src=_known_id(fields, "src", nodes, "node"),
            dst=_known_id(fields, "dst", nodes, "node"),
            bytes=fields.number("bytes", unit="bytes"),
            port=_port(fields),
            transfer_s=_transfers(fields, device_place)
            if fields.has("transfer_s") else {})
        if edge.port is not None and sizes.setdefault(
                (edge.src, edge.port), edge.bytes) != edge.bytes:
            fields.refuse(
                "bytes", f"{sizes[edge.src, edge.port]:g}, as an edge before with the same src "
                "and port: they are one tensor")
        yield edge


def _port(fields: Fields) -> str | None:
    """A name or a number, as tools count outputs."""
    value = fields.value("port")
    if type(value) is int and is_number(value):
        return str(value)
    return fields.text("port") if fields.has("port") else None


def _transfers(
    fields: Fields, device_place: Mapping[str, int]
) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for key, seconds in fields.entries("transfer_s").items():
        if not is_number(seconds):
            fields.refuse_entry("transfer_s", key, number_expected("seconds"))
        pairs = [pair for pair in _splits(key) if all(end in device_place for end in pair)]
        if len(pairs) != 1:
            fields.refuse_entry(
                "transfer_s", key, f'"source{ARROW}target" with ids of one pair of the devices '
                f"{_some(device_place)}, not of {len(pairs)} pairs",
                f"Correct it, or rename a device whose id has '{ARROW}' in it.")
        found[pairs[0]] = float(seconds)  # type: ignore[arg-type]
    return found


def _splits(key: str) -> Iterator[tuple[str, str]]:
    """Every way to read a text as source, arrow, target: ids may have arrows in them."""
    at = key.find(ARROW)
    while at >= 0:
        yield key[:at], key[at + len(ARROW):]
        at = key.find(ARROW, at + 1)


def _new_id(fields: Fields, place: dict[str, int]) -> str:
    name = fields.text("id")
    if name in place:
        fields.refuse("id", f"an id that entry {place[name]} does not have already",
                      "Give each its own.")
    place[name] = len(place)
    return name


def _known_id(
    fields: Fields, name: str, known: Mapping[str, int] | set[str], what: str
) -> str:
    value = fields.value(name)
    if type(value) is str and value in known:
        return value
    fields.refuse(name, f"the id of a {what}", f"Correct it, or add that {what}.")


def _check_groups(nodes: Sequence[NodeCosts], source: str) -> None:
    """The nodes of a group are not pinned apart."""
    first: dict[str, int] = {}
    for number, node in enumerate(nodes):
        if not (node.colocate and node.pin):
            continue
        before = first.setdefault(node.colocate, number)
        if nodes[before].pin != node.pin:
            refuse(source, f"nodes[{number}].pin",
                   f"'{shown(nodes[before].pin)}', as nodes[{before}].pin of the same colocate "
                   f"'{shown(node.colocate)}'", node.pin,
                   "Pin both to one device, or give them different labels.")


def _check_cells(
    nodes: Sequence[NodeCosts], edges: Sequence[EdgeCosts], count: int, source: str
) -> None:
    """Tables that are made dense are bounded before they are made."""
    by_device = any(isinstance(cost, Mapping) for node in nodes
                    for cost in (node.compute_s, node.backward_s))
    if by_device and len(nodes) * count > MAX_CELLS:
        raise _invalid(
            f"{source}: nodes have compute_s or backward_s by device id: {len(nodes)} nodes x "
            f"{count} devices; at most {MAX_CELLS} such pairs are read. Give one number for each "
            "node and speeds of the devices, or plan for fewer.", field="nodes")
    overridden = sum(bool(edge.transfer_s) for edge in edges)
    if overridden * count * count > MAX_CELLS:
        raise _invalid(
            f"{source}: {overridden} edges have transfer_s for {count} devices; at most "
            f"{MAX_CELLS // (count * count)} such edges are read. Give links instead.",
            field="edges")


def _check_acyclic(
    nodes: Sequence[NodeCosts], edges: Sequence[EdgeCosts], source: str
) -> None:
    place = {node.id: number for number, node in enumerate(nodes)}
    cycle = find_cycle(len(nodes), [(place[edge.src], place[edge.dst]) for edge in edges])
    if cycle:
        names = " -> ".join(f"'{shown(name)}'" for name in [
            edges[cycle[0]].src, *(edges[number].dst for number in cycle[:8])])
        raise _invalid(
            f"{source}: edges[{cycle[0]}] closes a cycle: {names}"
            f"{' -> ...' if len(cycle) > 8 else ''}; expected a graph without cycles. Remove one "
            "of its edges.", field=f"edges[{cycle[0]}]")


def _some(ids: Mapping[str, int]) -> str:
    names = [f"'{shown(name)}'" for name in list(ids)[:4]]
    return ", ".join(names) + (", ..." if len(ids) > 4 else "")


def _invalid(message: str, **details: object) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, message, **details)
