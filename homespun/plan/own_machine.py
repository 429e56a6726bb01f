"""What this machine could do alone, from what its peer has measured of it."""

from __future__ import annotations

import json

import msgspec

from dag.cluster import PeerRates, PeerResources, problem_with_rates
from dag.support import ExecutorSupport

MAX_BYTES = 256 * 1024
OWN_ID = "your own machine"


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `peer.hardware.HardwareReport` that a plan reads."""

    memory_bytes: int
    rates: PeerRates
    executor: str
    support: ExecutorSupport


def own_machine() -> PeerResources | None:
    """This machine as a peer; None where no peer has measured it."""
    from peer.settings import PeerDirectory

    try:
        with PeerDirectory.default().hardware.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        kept = msgspec.convert(json.loads(data)["report"], _Report)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # never measured, or by another version: nothing to compare with
    if kept.memory_bytes <= 0 or problem_with_rates(kept.rates):
        return None
    return PeerResources(
        peer_id=OWN_ID, memory_bytes=kept.memory_bytes, rates=kept.rates, executor=kept.executor,
        support=kept.support)
