"""Messages of a session as broker-core events, with the bounds that strangers must keep."""

from __future__ import annotations

from broker.core import events as ev
from broker.core.drain import AVAILABILITIES
from broker.core.limits import (
    DRAIN_MAX_MS,
    MAX_DTYPES,
    MAX_HELD_LEASES,
    MAX_HELD_SNAPSHOTS,
    MAX_HELD_STANDBYS,
    MAX_MESSAGE,
    MAX_OPERATORS,
    MAX_SEGMENTS,
    MAX_SERIALS,
    MAX_SLOTS,
)
from broker.core.readiness import LEVELS
from broker.rpc.bounds import check_count, check_member, check_texts, check_whole, shown
from broker.rpc.report_codec import check_snapshot
from dag.cluster import CORRECTIONS_MAX, DTYPES_MAX, Link, PeerRates
from dag.support import FIRST_RELEASE, ExecutorSupport
from homespun.identity.address import split_address
from homespun.v1 import session_pb2
from homespun.wire import from_message


def connected(
    peer_id: str, session_id: str, register: session_pb2.Register
) -> ev.PeerConnected:
    """A registration as an event.

    Raises:
        HomespunError: INVALID_ARGUMENT or LIMIT_EXCEEDED for what no honest peer sends: it must
            not even reach the journal.
    """
    _check_register(register)
    hardware = register.hardware
    return ev.PeerConnected(
        at_ns=0,
        peer_id=peer_id,
        session_id=session_id,
        name=register.name,
        software_version=register.software_version,
        tensor_address=register.tensor_address,
        hardware=ev.PeerHardware(
            device=hardware.device,
            device_name=hardware.device_name,
            memory_bytes=hardware.memory_bytes,
            rates=_rates(hardware),
            executor=hardware.executor,
            platform=hardware.platform,
            threads=hardware.threads,
            support=from_message(hardware.support, ExecutorSupport)
            if hardware.HasField("support") else FIRST_RELEASE,
        ),
        leases=tuple(
            ev.HeldLease(
                job_id=lease.job_id, segment=lease.segment, token=lease.token, phase=lease.phase
            )
            for lease in register.leases
        ),
        standbys=tuple(from_message(held, ev.HeldStandby) for held in register.standbys),
        snapshots=tuple(from_message(held, ev.HeldSnapshot) for held in register.snapshots),
        # A peer from before availabilities does whatever it is given.
        availability=register.availability.availability
        if register.HasField("availability") else "open",
        drain_ms=min(register.availability.deadline_ms, DRAIN_MAX_MS),
        joins_parts=register.joins_parts,
    )


def _rates(hardware: session_pb2.Hardware) -> PeerRates:
    """What a peer measured; one of the first release knows three rates."""
    if hardware.HasField("rates"):
        return from_message(hardware.rates, PeerRates)
    return PeerRates(
        matmul_flops_per_s=hardware.matmul_flops_per_s,
        attention_flops_per_s=hardware.attention_flops_per_s,
        memory_bytes_per_s=hardware.memory_bytes_per_s)


def measured(peer_id: str, said: session_pb2.LinkMeasured) -> ev.LinkMeasured:
    """A measurement as an event."""
    link = Link(
        source=peer_id,
        target=said.to_peer,
        latency_s=said.latency_s,
        bandwidth_bytes_per_s=said.bandwidth_bytes_per_s,
    )
    return ev.LinkMeasured(at_ns=0, link=link)


def piece_stored(peer_id: str, said: session_pb2.PieceStored) -> ev.PieceStored:
    """A piece of a partial result as an event. What it says is checked by the core.

    Raises:
        HomespunError: INVALID_ARGUMENT for what no honest peer says.
    """
    for name in ("serial", "position", "size_bytes"):
        check_whole(name, getattr(said, name), 0, 2**63 - 1)
    check_texts(job_id=said.job_id, digest=said.digest)
    return ev.PieceStored(
        at_ns=0, peer_id=peer_id, job_id=said.job_id, serial=said.serial,
        position=said.position, digest=said.digest, size_bytes=said.size_bytes,
        problem=shown(said.problem, MAX_MESSAGE))


def transfers_measured(peer_id: str, said: session_pb2.LinkTraffic) -> ev.TransfersMeasured:
    """The bandwidth that a link's traffic showed, as an event."""
    return ev.TransfersMeasured(
        at_ns=0, source=peer_id, target=shown(said.to_peer),
        bandwidth_bytes_per_s=said.goodput_bytes_per_s)


def availability_changed(
    peer_id: str, said: session_pb2.Availability
) -> ev.AvailabilityChanged:
    """What a peer's owner lets it do from now on, as an event.

    Raises:
        HomespunError: INVALID_ARGUMENT for an availability that does not exist.
    """
    _check_availability(said)
    return ev.AvailabilityChanged(
        at_ns=0, peer_id=peer_id, availability=said.availability,
        deadline_ms=min(said.deadline_ms, DRAIN_MAX_MS))


def _check_availability(said: session_pb2.Availability) -> None:
    check_member("availability", said.availability, AVAILABILITIES)
    check_whole("deadline_ms", said.deadline_ms, 0, 2**63 - 1)


def _check_register(register: session_pb2.Register) -> None:
    hardware = register.hardware
    check_texts(
        name=register.name,
        software_version=register.software_version,
        device=hardware.device,
        device_name=hardware.device_name,
        executor=hardware.executor,
        platform=hardware.platform,
    )
    _check_support(hardware.support)
    check_count("narrow dtypes", len(hardware.rates.narrow), DTYPES_MAX)
    check_count("corrections", len(hardware.rates.corrections), CORRECTIONS_MAX)
    split_address(register.tensor_address)  # other peers are told to dial it
    _check_held(register)
    if register.HasField("availability"):
        _check_availability(register.availability)


def _check_held(register: session_pb2.Register) -> None:
    """Bound what a peer says that it has; whether it should have that is for the core to say."""
    check_count("leases", len(register.leases), MAX_HELD_LEASES)
    check_count("standbys", len(register.standbys), MAX_HELD_STANDBYS)
    check_count("snapshots", len(register.snapshots), MAX_HELD_SNAPSHOTS)
    for held in (*register.leases, *register.standbys, *register.snapshots):
        check_texts(job_id=held.job_id)
    for lease in register.leases:
        check_texts(phase=lease.phase)
    for standby in register.standbys:
        check_whole("segment", standby.segment, 0, MAX_SEGMENTS - 1)
        check_member("level", standby.level, LEVELS)
    for snapshot in register.snapshots:
        check_whole("segment", snapshot.segment, 0, MAX_SERIALS - 1)
        check_snapshot(snapshot)


def _check_support(support: session_pb2.ExecutorSupport) -> None:
    """Bound what an executor declares; names that nobody knows are harmless."""
    entries = support.operators
    check_count("operators", max(
        len(entries), sum(len(entry.operators) for entry in entries)), MAX_OPERATORS)
    for entry in entries:
        check_count("slots of an operator", max(len(entry.inputs), len(entry.outputs)), MAX_SLOTS)
        for name in entry.operators:
            check_texts(operator=name)
        for slot in (*entry.inputs, *entry.outputs):
            check_count("dtypes of a slot", len(slot.dtypes), MAX_DTYPES)
            for dtype in slot.dtypes:
                check_texts(dtype=dtype)
