"""The limits that an owner sets: how a machine is lent, so that it stays its owner's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from homespun.errors import Code, HomespunError
from peer.owner.core.months import RESET_DAY_MAX
from peer.owner.core.schedule import ALWAYS_TEXT, parse_schedule

PROGRAMS_MAX = 100


class IdleRule(StrEnum):
    """Whether the machine is lent only while nobody uses it."""

    AUTO = "auto"
    """A GPU, where the system says whether somebody is there; a processor always."""
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerLimits:
    """One owner's limits. A number of 0 sets no limit.

    Attributes:
        schedule: hours, as `parse_schedule` reads them.
        notice_s: how long before the hours end hand-over begins.
        handover_s: how long it may take when a limit is met; a quarter of that where the owner
            needs the machine at once.
        only_when_idle: whether somebody's presence stops the work.
        idle_s: without a touch, until nobody is there.
        on_battery: whether to work on battery.
        on_metered: whether to work over a network that is paid by the byte.
        temperature_c: of the device, held by resting.
        power_w: of the device, held by resting.
        others_percent: of the device's time that other programs may use, until the work makes way.
        programs: names that stop the work while one of them runs; letter case and `.exe` do not
            matter.
        upload_bytes_per_s, download_bytes_per_s: beyond the local network.
        monthly_bytes: sent and received beyond the local network.
        reset_day: of the month, on which the quota begins anew, 1 to 28.
        free_disk_bytes: must stay free where the peer's directory is.
        free_memory_bytes: of the machine's memory must stay free.
    """

    schedule: str = ALWAYS_TEXT
    notice_s: float = 600.0
    handover_s: float = 60.0
    only_when_idle: IdleRule = IdleRule.AUTO
    idle_s: float = 180.0
    on_battery: bool = False
    on_metered: bool = False
    temperature_c: float = 83.0
    power_w: float = 0.0
    others_percent: float = 20.0
    programs: tuple[str, ...] = ()
    upload_bytes_per_s: int = 0
    download_bytes_per_s: int = 0
    monthly_bytes: int = 0
    reset_day: int = 1
    free_disk_bytes: int = 1 << 30
    free_memory_bytes: int = 0

    def check(self) -> None:
        """Whether it makes sense.

        Raises:
            HomespunError: INVALID_ARGUMENT with the limit that does not.
        """
        parse_schedule(self.schedule)
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise HomespunError(
                    Code.INVALID_ARGUMENT, f"The limit {name} is {value}; {low} to {high} "
                    "expected.", value=value)
        if len(self.programs) > PROGRAMS_MAX or not all(self.programs):
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"Programs are at most {PROGRAMS_MAX} names, none empty.")


NO_LIMITS = OwnerLimits(
    only_when_idle=IdleRule.NO, on_battery=True, on_metered=True, temperature_c=0.0,
    others_percent=0.0, free_disk_bytes=0)
"""Lends everything at all times: for networks of one's own, and for tests."""

_RANGES = (
    ("notice_s", 0, 86_400), ("handover_s", 1, 86_400), ("idle_s", 1, 86_400),
    ("temperature_c", 0, 120), ("power_w", 0, 10_000), ("others_percent", 0, 100),
    ("upload_bytes_per_s", 0, 1 << 40), ("download_bytes_per_s", 0, 1 << 40),
    ("monthly_bytes", 0, 1 << 60), ("reset_day", 1, RESET_DAY_MAX),
    ("free_disk_bytes", 0, 1 << 60), ("free_memory_bytes", 0, 1 << 60))
