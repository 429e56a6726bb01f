"""Messages of a session as broker-core events, with the bounds that strangers must keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.core import events as ev
from broker.core.limits import (
    MAX_DTYPES,
    MAX_HELD_LEASES,
    MAX_MESSAGE,
    MAX_OPERATORS,
    MAX_SLOTS,
    MAX_TEXT,
)
from dag.cluster import CORRECTIONS_MAX, DTYPES_MAX, Correction, Link, PeerRates
from dag.support import FIRST_RELEASE, ExecutorSupport
from homespun.errors import Code, HomespunError
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


def transfers_measured(peer_id: str, said: session_pb2.LinkTraffic) -> ev.TransfersMeasured:
    """The bandwidth that a link's traffic showed, as an event."""
    return ev.TransfersMeasured(
        at_ns=0, source=peer_id, target=shown(said.to_peer),
        bandwidth_bytes_per_s=said.goodput_bytes_per_s)


def report_event(peer_id: str, report: session_pb2.Report) -> ev.AnyEvent:
    """A report as an event.

    Raises:
        HomespunError: INVALID_ARGUMENT for an overlong id, or a report without a body.
    """
    _check_texts(job_id=report.job_id)
    base: dict[str, Any] = {
        "at_ns": 0,
        "peer_id": peer_id,
        "number": report.number,
        "job_id": report.job_id,
        "segment": report.segment,
        "token": report.token,
    }
    match report.WhichOneof("body"):
        case "ready":
            return ev.SegmentReady(**base)
        case "steps":
            steps = report.steps
            return ev.StepsDone(
                **base, first_step=steps.first_step, count=steps.count, losses=tuple(steps.losses)
            )
        case "evaluation":
            return ev.EvaluationDone(
                **base, step=report.evaluation.step, loss=report.evaluation.loss
            )
        case "failed":
            failed = report.failed
            return ev.SegmentFailed(
                **base,
                code=shown(failed.code),
                message=shown(failed.message, MAX_MESSAGE),
                blamed_peer=shown(failed.blamed_peer),
            )
        case "finished":
            finished = report.finished
            return ev.SegmentFinished(
                **base,
                result_digest=shown(finished.result_digest),
                result_bytes=finished.result_bytes,
                corrections=_corrections(finished.corrections),
            )
        case "released":
            return ev.SegmentReleased(**base)
    raise HomespunError(Code.INVALID_ARGUMENT, "a report without a body")


def _corrections(said: Sequence[session_pb2.Correction]) -> tuple[Correction, ...]:
    """Bounded before they are read: whether they make sense is for the core to say."""
    _check_count("corrections", len(said), CORRECTIONS_MAX)
    return tuple(from_message(found, Correction) for found in said)


def shown(text: str, limit: int = MAX_TEXT) -> str:
    """A peer's text, safe to store and to print: bounded, one line, no control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def _check_register(register: session_pb2.Register) -> None:
    hardware = register.hardware
    _check_texts(
        name=register.name,
        software_version=register.software_version,
        device=hardware.device,
        device_name=hardware.device_name,
        executor=hardware.executor,
        platform=hardware.platform,
    )
    _check_support(hardware.support)
    _check_count("narrow dtypes", len(hardware.rates.narrow), DTYPES_MAX)
    _check_count("corrections", len(hardware.rates.corrections), CORRECTIONS_MAX)
    split_address(register.tensor_address)  # other peers are told to dial it
    if len(register.leases) > MAX_HELD_LEASES:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"{len(register.leases)} leases named; at most {MAX_HELD_LEASES}. Restart the peer.",
        )
    for lease in register.leases:
        _check_texts(job_id=lease.job_id, phase=lease.phase)


def _check_support(support: session_pb2.ExecutorSupport) -> None:
    """Bound what an executor declares; names that nobody knows are harmless."""
    entries = support.operators
    _check_count("operators", max(
        len(entries), sum(len(entry.operators) for entry in entries)), MAX_OPERATORS)
    for entry in entries:
        _check_count("slots of an operator", max(len(entry.inputs), len(entry.outputs)), MAX_SLOTS)
        for name in entry.operators:
            _check_texts(operator=name)
        for slot in (*entry.inputs, *entry.outputs):
            _check_count("dtypes of a slot", len(slot.dtypes), MAX_DTYPES)
            for dtype in slot.dtypes:
                _check_texts(dtype=dtype)


def _check_count(what: str, had: int, most: int) -> None:
    if had > most:
        raise HomespunError(
            Code.LIMIT_EXCEEDED, f"The peer's executor names {had} {what}; at most {most}.")


def _check_texts(**texts: str) -> None:
    for field, text in texts.items():
        if len(text) > MAX_TEXT or not text.isprintable():
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"{field} must have at most {MAX_TEXT} printable characters",
            )
