"""Why a segment failed, in one closed list, and whom that counts against.

A peer classifies what happened to it (`peer.diagnosis`); the broker decides by the class. A code
that an older peer, or a plain error, leaves without a class has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class CauseInfo:
    """What one class means: for counting, and for people."""

    against: Against
    meaning: str
    remedy: str


CAUSES: Mapping[Cause, CauseInfo] = {
    Cause.DEVICE_MEMORY: CauseInfo(
        Against.PEER, "The device, or the machine, had less free memory than the segment needs.",
        "End other programs that use the device, or lend less of it: `peer join --memory`."),
    Cause.DEVICE_FAULT: CauseInfo(
        Against.PEER, "The device or its driver failed, or does not fit the framework.",
        "Restart the machine; if it happens again, update the driver, and check cooling and power "
        "of the device."),
    Cause.DISK: CauseInfo(
        Against.PEER, "A disk is full, or cannot be read or written.",
        "Free space where the peer's directory is; if there is space, check the disk."),
    Cause.NETWORK: CauseInfo(
        Against.LINK, "Two machines could not reach each other, or not well enough.",
        "Check the network between the two peers that the message names."),
    Cause.CLOCK: CauseInfo(
        Against.PEER, "The machine's clock is wrong, jumped, or stood still while it slept.",
        "Let the system set its clock from the network, and keep the machine awake while it "
        "lends its device."),
    Cause.KILLED: CauseInfo(
        Against.PEER, "Somebody, or the system, ended the process that computed.",
        "Nothing, if that was meant; otherwise see the system's log for who ended it."),
    Cause.SOFTWARE: CauseInfo(
        Against.JOB, "A program failed while it computed: a framework, or Homespun.",
        "Report it with the peer's log if it happens again."),
    Cause.JOB: CauseInfo(
        Against.JOB, "The job itself cannot be computed: its graph, its data or its numbers.",
        "Correct the job; peers are not to blame."),
}

AGAINST: Mapping[Cause, Against] = {cause: info.against for cause, info in CAUSES.items()}

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
    Code.NOT_FINITE: Cause.SOFTWARE,
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
