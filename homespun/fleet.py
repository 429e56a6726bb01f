"""The peers of a network as the planner sees them: asked of a broker, saved, and read again.

A saved fleet plans the same tomorrow, on a train, and for peers that are not bought yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dag.cluster import Cluster, Link, PeerRates, PeerResources, problem_with_rates
from dag.json_fields import Fields, parse
from dag.support import ExecutorSupport
from homespun.cli.output import table_lines
from homespun.connection import Connection
from homespun.errors import Code, HomespunError
from homespun.units import format_size
from homespun.v1 import jobs_pb2
from homespun.wire import from_message

SCHEMA = "homespun.fleet/1"
MAX_BYTES = 512 * 2**20
MAX_PEERS = 2_000
MAX_SUPPORTS = 256
_FLEET = frozenset({"schema", "peers", "links", "supports"})
_PEER = frozenset({
    "id", "name", "is_free", "device_name", "memory_bytes", "executor", "rates", "support"})
_LINK = frozenset({"source", "target", "latency_s", "bandwidth_bytes_per_s"})

FLEET_COLUMNS = ("peer", "name", "executor", "device", "memory", "GFLOP/s", "free")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPeer:
    """One peer.

    Attributes:
        resources: what the planner reads.
        name: what people call it.
        device_name: of its device.
        is_free: whether it ran no segment when the fleet was asked.
    """

    resources: PeerResources
    name: str = ""
    device_name: str = ""
    is_free: bool = True

    @property
    def label(self) -> str:
        """What to call it: its name, or else its id."""
        return self.name or self.resources.peer_id


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Fleet:
    """Peers and the measured links between them."""

    peers: tuple[FleetPeer, ...]
    links: tuple[Link, ...] = ()

    def __repr__(self) -> str:
        return "\n".join((self._told(), *table_lines(FLEET_COLUMNS, fleet_rows(self))))

    def _repr_html_(self) -> str:
        from homespun import markup

        return markup.card(self._told(), markup.table(FLEET_COLUMNS, fleet_rows(self)))

    @property
    def capacity(self) -> str:
        """How many peers there are, how many of them are free, and their memory, in words."""
        free = sum(peer.is_free for peer in self.peers)
        memory = format_size(sum(peer.resources.memory_bytes for peer in self.peers))
        count = len(self.peers)
        return f"{count} peer{'s' * (count != 1)}, {free} of them free, {memory} in all"

    def _told(self) -> str:
        return f"{self.capacity}; {len(self.links)} measured links"

    @property
    def cluster(self) -> Cluster:
        """All of it, as the planner takes it."""
        return Cluster(peers=tuple(peer.resources for peer in self.peers), links=self.links)


def fleet_rows(fleet: Fleet) -> list[tuple[str, ...]]:
    """The peers as the cells of `FLEET_COLUMNS`."""
    return [
        (peer.resources.peer_id, peer.name, peer.resources.executor, peer.device_name,
         format_size(peer.resources.memory_bytes),
         f"{peer.resources.rates.matmul_flops_per_s / 1e9:.0f}", "yes" if peer.is_free else "no")
        for peer in fleet.peers]


def fleet_of(connection: Connection, within_s: float | None = None) -> Fleet:
    """The live peers of a broker's network.

    Args:
        connection: to the broker.
        within_s: ask once, for so long at most; None: again and again for the connection's time.

    Raises:
        HomespunError: what the broker answers; UNREACHABLE or TIMED_OUT when it does not.
    """
    request = jobs_pb2.GetFleetRequest()
    if within_s is None:
        parts = connection.patiently(lambda _: list(connection.stream("GetFleet", request)))
    else:
        parts = list(connection.stream("GetFleet", request, within_s))
    supports = [from_message(support, ExecutorSupport)
                for part in parts for support in part.supports]
    return Fleet(
        peers=tuple(_from_wire(peer, supports) for part in parts for peer in part.peers),
        links=tuple(from_message(link, Link) for part in parts for link in part.links))


def _from_wire(peer: Any, supports: Sequence[ExecutorSupport]) -> FleetPeer:
    return FleetPeer(
        name=peer.name, device_name=peer.device_name, is_free=peer.is_free,
        resources=PeerResources(
            peer_id=peer.peer_id, memory_bytes=peer.memory_bytes,
            rates=from_message(peer.rates, PeerRates), executor=peer.executor,
            support=supports[peer.support]))


def write_fleet(fleet: Fleet) -> str:
    """The fleet as JSON; what several executors declare alike stands there once."""
    supports = list(dict.fromkeys(
        peer.resources.support for peer in fleet.peers if peer.resources.support is not None))
    return json.dumps({
        "schema": SCHEMA,
        "peers": [_peer_value(peer, supports) for peer in fleet.peers],
        "links": [msgspec.to_builtins(link) for link in fleet.links],
        "supports": [msgspec.to_builtins(support) for support in supports],
    }, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _peer_value(peer: FleetPeer, supports: Sequence[ExecutorSupport]) -> dict[str, object]:
    has = peer.resources
    support = {} if has.support is None else {"support": supports.index(has.support)}
    return {
        "id": has.peer_id, "name": peer.name, "device_name": peer.device_name,
        "is_free": peer.is_free, "memory_bytes": has.memory_bytes, "executor": has.executor,
        "rates": msgspec.to_builtins(has.rates), **support}


def read_fleet(path: Path) -> Fleet:
    """A fleet from a file that `write_fleet` has written, or a person.

    Raises:
        HomespunError: INVALID_ARGUMENT names the field with its place, what was expected and what
            to do.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    source = str(path)
    if len(data) > MAX_BYTES:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"{source} is larger than {MAX_BYTES} bytes.", path=source)
    value = parse(data, source)
    if isinstance(value, dict) and value.get("schema") != SCHEMA:
        Fields({"schema": value.get("schema")}, source, "", _FLEET).refuse(
            "schema", f'"{SCHEMA}"', "Write one with: homespun fleet save FILE.")
    whole = Fields(value, source, "", _FLEET)
    supports = [
        _converted(item, ExecutorSupport, source, f"supports[{number}]")
        for number, item in enumerate(whole.array("supports", at_most=MAX_SUPPORTS))]
    peers = tuple(_peers(whole, source, supports))
    known = {peer.resources.peer_id for peer in peers}
    return Fleet(peers=peers, links=tuple(_links(whole, known)))


def _peers(
    whole: Fields, source: str, supports: Sequence[ExecutorSupport]
) -> Iterable[FleetPeer]:
    seen: set[str] = set()
    for fields_ in whole.objects("peers", _PEER, at_most=MAX_PEERS, at_least=1):
        peer_id = fields_.text("id")
        if peer_id in seen:
            fields_.refuse("id", "an id that no peer before has", "Give each its own.")
        seen.add(peer_id)
        support = fields_.whole("support", -1, at_most=len(supports) - 1)
        yield FleetPeer(
            name=fields_.text("name", "") if fields_.value("name") else "",
            device_name=fields_.text("device_name", "") if fields_.value("device_name") else "",
            is_free=fields_.value("is_free") is not False,
            resources=PeerResources(
                peer_id=peer_id, memory_bytes=fields_.whole("memory_bytes", at_most=2**60),
                rates=_rates(fields_, source),
                executor=fields_.text("executor", "") if fields_.value("executor") else "",
                support=None if support < 0 else supports[support]))


def _rates(fields_: Fields, source: str) -> PeerRates:
    place = fields_.place("rates")
    rates = _converted(fields_.value("rates"), PeerRates, source, place)
    if trouble := problem_with_rates(rates):
        raise HomespunError(Code.INVALID_ARGUMENT, f"{source}: {place}: {trouble}. Correct it.",
                            field=place)
    return rates


def _links(whole: Fields, known: set[str]) -> Iterable[Link]:
    pairs: set[tuple[str, str]] = set()
    for fields_ in whole.objects("links", _LINK, at_most=MAX_PEERS**2):
        ends = fields_.text("source"), fields_.text("target")
        for name, end in zip(("source", "target"), ends, strict=True):
            if end not in known:
                fields_.refuse(name, "the id of a peer", "Correct it, or add that peer.")
        if ends in pairs:
            fields_.refuse("target", "each ordered pair of peers once", "Remove one of the two.")
        pairs.add(ends)
        yield Link(
            source=ends[0], target=ends[1], latency_s=fields_.number("latency_s", unit="seconds"),
            bandwidth_bytes_per_s=fields_.number(
                "bandwidth_bytes_per_s", unit="bytes per second", positive=True))


def _converted(value: object, data_class: type[T], source: str, place: str) -> T:
    """A value as a frozen dataclass, without unknown fields."""
    known = frozenset(field.name for field in fields(data_class))  # type: ignore[arg-type]
    Fields(value, source, place, known)
    try:
        return msgspec.convert(value, data_class)
    except (msgspec.ValidationError, UnicodeError, OverflowError) as error:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"{source}: {place}: {error}. Correct it.", field=place,
        ) from None
