"""Why a machine is not lent, or not fully: a closed list, each with what would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ReasonKind(StrEnum):
    """What stands against lending. The text of a member never changes its meaning."""

    OWNER_PAUSED = "owner_paused"
    OWNER_FINISHES = "owner_finishes"
    OWNER_LEAVES = "owner_leaves"
    OUTSIDE_HOURS = "outside_hours"
    HOURS_END = "hours_end"
    IN_USE = "in_use"
    USE_UNKNOWN = "use_unknown"
    ON_BATTERY = "on_battery"
    METERED = "metered"
    PROGRAM_RUNS = "program_runs"
    OTHERS_USE_DEVICE = "others_use_device"
    TOO_HOT = "too_hot"
    WARM = "warm"
    POWER = "power"
    QUOTA_USED = "quota_used"
    DISK_FULL = "disk_full"
    MEMORY_SHORT = "memory_short"
    SETTLING = "settling"


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """What one kind of reason is.

    Attributes:
        text: what is the matter, with the facts' names in braces.
        change: what the owner can do about it, or what ends it.
        is_urgent: whether somebody needs the machine now, so that hand-over has less time.
        is_sensed: whether it comes from a reading, which may come and go: the peer then waits a
            while before it is open again.
    """

    text: str
    change: str
    is_urgent: bool = False
    is_sensed: bool = False


CATALOG: Mapping[ReasonKind, ReasonInfo] = {
    ReasonKind.OWNER_PAUSED: ReasonInfo(
        "its owner has paused it{until}", "peer resume"),
    ReasonKind.OWNER_FINISHES: ReasonInfo(
        "its owner lets it end what it has and take nothing new{until}", "peer resume"),
    ReasonKind.OWNER_LEAVES: ReasonInfo(
        "its owner has told it to leave", "peer run starts it again"),
    ReasonKind.OUTSIDE_HOURS: ReasonInfo(
        "it is outside its hours ({schedule}){until}",
        "wait, or: peer set schedule always"),
    ReasonKind.HOURS_END: ReasonInfo(
        "its hours end at {end}, so that it hands over now",
        "a longer window in `peer set schedule`, or a shorter `peer set notice`"),
    ReasonKind.IN_USE: ReasonInfo(
        "somebody uses this machine: untouched for {idle}, {wanted} wanted ({source})",
        "leave it alone, or: peer set only-when-idle no", is_urgent=True, is_sensed=True),
    ReasonKind.USE_UNKNOWN: ReasonInfo(
        "whether somebody uses this machine cannot be read: {problem}",
        "peer set only-when-idle no, which lends it whoever is there", is_sensed=True),
    ReasonKind.ON_BATTERY: ReasonInfo(
        "it runs on battery ({source})", "plug it in, or: peer set on-battery yes",
        is_sensed=True),
    ReasonKind.METERED: ReasonInfo(
        "its network is paid by the byte ({source})",
        "use another network, or: peer set on-metered yes", is_sensed=True),
    ReasonKind.PROGRAM_RUNS: ReasonInfo(
        "{program} is running", "end it, or take it from `peer set programs`",
        is_urgent=True, is_sensed=True),
    ReasonKind.OTHERS_USE_DEVICE: ReasonInfo(
        "other programs use {share:.0f} % of the device, at most {limit:.0f} % allowed ({source})",
        "end them, or raise: peer set others-percent", is_urgent=True, is_sensed=True),
    ReasonKind.TOO_HOT: ReasonInfo(
        "the device is or was at {value:.0f} °C, and is to be below {release:.0f} °C first",
        "better cooling, or raise: peer set temperature", is_urgent=True, is_sensed=True),
    ReasonKind.WARM: ReasonInfo(
        "the device is at {value:.0f} °C, limit {limit:.0f} °C, and works {duty:.0%} of the time",
        "better cooling, or raise: peer set temperature"),
    ReasonKind.POWER: ReasonInfo(
        "the device draws {value:.0f} W, limit {limit:.0f} W, and works {duty:.0%} of the time",
        "raise: peer set power"),
    ReasonKind.QUOTA_USED: ReasonInfo(
        "this month's {quota} of traffic are used up{until}",
        "wait for the reset day, or raise: peer set monthly-quota"),
    ReasonKind.DISK_FULL: ReasonInfo(
        "only {free} of disk are free, {wanted} are to stay free",
        "free space, or lower: peer set free-disk", is_sensed=True),
    ReasonKind.MEMORY_SHORT: ReasonInfo(
        "only {free} of memory are free, {wanted} are to stay free",
        "end programs, or lower: peer set free-memory", is_urgent=True, is_sensed=True),
    ReasonKind.SETTLING: ReasonInfo(
        "what stood against it is over, and it waits {left} whether that lasts", "wait"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason, as it is now.

    Attributes:
        kind: which.
        text: for people, with the facts.
        change: what would change it.
        until_unix_ms: when it ends by itself, if that is known; else 0.
    """

    kind: ReasonKind
    text: str
    change: str
    until_unix_ms: int = 0


def reason(kind: ReasonKind, until_unix_s: float | None = None, **facts: object) -> Reason:
    """A reason with its facts filled in."""
    found = CATALOG[kind]
    return Reason(
        kind=kind, text=found.text.format(**facts), change=found.change,
        until_unix_ms=0 if until_unix_s is None else round(until_unix_s * 1000))
