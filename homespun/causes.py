"""Why a segment failed, in one closed list, and whom that counts against.

A peer classifies what happened to it (`peer.diagnosis`); the broker decides by the class. A code
that an older peer, or a plain error, leaves without a class has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from homespun.errors import Code


class Cause(StrEnum):
    """Class of a failure."""

    DEVICE_MEMORY = "device_memory"
    DEVICE_FAULT = "device_fault"
    DISK = "disk"
    NETWORK = "network"
    CLOCK = "clock"
    KILLED = "killed"
    SOFTWARE = "software"
    JOB = "job"
    """The job's own: it would come again on any machine."""


class Against(StrEnum):
    """Whom a failure counts against."""

    PEER = "peer"
    LINK = "link"
    JOB = "job"


AGAINST: Mapping[Cause, Against] = {
    Cause.DEVICE_MEMORY: Against.PEER,
    Cause.DEVICE_FAULT: Against.PEER,
    Cause.DISK: Against.PEER,
    Cause.NETWORK: Against.LINK,
    Cause.CLOCK: Against.PEER,
    Cause.KILLED: Against.PEER,
    Cause.SOFTWARE: Against.JOB,
    Cause.JOB: Against.JOB,
}

PASSING = frozenset({Cause.KILLED, Cause.NETWORK, Cause.SOFTWARE, Cause.CLOCK})
"""Causes that may not come again on the same machine."""

_OF_CODE: Mapping[str, Cause] = {
    Code.OUT_OF_MEMORY: Cause.DEVICE_MEMORY,
    Code.EXECUTOR_DIED: Cause.KILLED,
    Code.EXECUTOR_FAILED: Cause.SOFTWARE,
    Code.DISK_FULL: Cause.DISK,
    Code.DIGEST_MISMATCH: Cause.DISK,
    Code.UNREACHABLE: Cause.NETWORK,
    Code.TIMED_OUT: Cause.NETWORK,
    Code.STALLED: Cause.KILLED,
    Code.PEER_LOST: Cause.NETWORK,
    Code.OVERLOADED: Cause.NETWORK,
    Code.LOSS_NOT_FINITE: Cause.JOB,
    Code.UNSUPPORTED_OP: Cause.JOB,
    Code.INVALID_GRAPH: Cause.JOB,
    Code.INVALID_JOB: Cause.JOB,
    Code.NOT_FOUND: Cause.NETWORK,
    Code.INTERNAL: Cause.SOFTWARE,
}


def cause_of(code: str, said: str = "") -> Cause:
    """The class of a failure: what its peer said, or else what its code usually means."""
    if said in frozenset(Cause):
        return Cause(said)
    return _OF_CODE.get(code, Cause.SOFTWARE)
