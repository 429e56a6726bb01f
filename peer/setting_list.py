"""Every setting of a peer by the name that its owner uses: how to read, show and change it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from homespun.errors import Code, HomespunError
from peer import setting_texts as texts
from peer.executor.installed import NAMES
from peer.owner.core.limits import IdleRule
from peer.priority import Priority
from peer.setting_texts import Kind
from peer.settings import PeerSettings


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: as the owner writes it.
        field: of `PeerSettings`, or of its limits.
        kind: how values are written.
        meaning: what it does, in a line.
        is_limit: whether it is one of the limits.
        needs_restart: whether a running daemon goes on with the old value.
    """

    name: str
    field: str
    kind: Kind
    meaning: str
    is_limit: bool = True
    needs_restart: bool = False

    def value_in(self, settings: PeerSettings) -> Any:
        """Its value."""
        return getattr(settings.limits if self.is_limit else settings, self.field)

    def text_in(self, settings: PeerSettings) -> str:
        """Its value, as it is written."""
        return self.kind.show(self.value_in(settings))

    def is_default(self, settings: PeerSettings) -> bool:
        """Whether nobody has changed it."""
        return bool(self.value_in(settings) == self.value_in(PeerSettings(name=settings.name)))

    def changed(self, settings: PeerSettings, text: str) -> PeerSettings:
        """Settings with another value.

        Raises:
            HomespunError: INVALID_ARGUMENT when the text is no value of this setting.
        """
        try:
            value = self.kind.read(text)
            if not self.is_limit:
                return replace(settings, **{self.field: value})
            limits = replace(settings.limits, **{self.field: value})
            limits.check()
        except HomespunError as error:
            raise HomespunError(
                error.code, f"{self.name}: {error.message}", setting=self.name,
                value=text[:60]) from error
        return replace(settings, limits=limits)


IDLE_RULE = Kind(
    lambda text: IdleRule(texts.one_of(*IdleRule).read(text)), str, "|".join(IdleRule))
PRIORITY = Kind(
    lambda text: Priority(texts.one_of(*Priority).read(text)), str, "|".join(Priority))


def _of_peer(name: str, field: str, kind: Kind, meaning: str, restart: bool = False) -> Setting:
    return Setting(name, field, kind, meaning, is_limit=False, needs_restart=restart)


SETTINGS: tuple[Setting, ...] = (
    Setting("schedule", "schedule", texts.SCHEDULE, "Hours in which this machine is lent."),
    Setting("notice", "notice_s", texts.DURATION,
            "How long before the hours end hand-over begins."),
    Setting("handover", "handover_s", texts.DURATION,
            "How long hand-over may take when a limit is met; a quarter where you need it now."),
    Setting("only-when-idle", "only_when_idle",
            IDLE_RULE,
            "Only while nobody uses the machine; auto: for a GPU, where that can be read."),
    Setting("idle-after", "idle_s", texts.DURATION, "Nobody uses it when untouched for so long."),
    Setting("on-battery", "on_battery", texts.YES_OR_NO, "Work on battery."),
    Setting("on-metered", "on_metered", texts.YES_OR_NO, "Work over networks paid by the byte."),
    Setting("temperature", "temperature_c", texts.quantity("C"),
            "Highest temperature of the GPU, kept by resting between tasks."),
    Setting("power", "power_w", texts.quantity("W"),
            "Highest power of the GPU, kept by resting between tasks."),
    Setting("others-percent", "others_percent", texts.quantity("%"),
            "Make way when other programs use more of the GPU."),
    Setting("programs", "programs", texts.PROGRAMS, "Make way while one of these programs runs."),
    Setting("upload", "upload_bytes_per_s", texts.RATE, "Highest rate beyond the local network."),
    Setting("download", "download_bytes_per_s", texts.RATE,
            "Highest rate beyond the local network."),
    Setting("monthly-quota", "monthly_bytes", texts.size("off"),
            "Bytes a month, both ways, beyond the local network."),
    Setting("reset-day", "reset_day", texts.whole(1, 28), "Day on which the month begins."),
    Setting("free-disk", "free_disk_bytes", texts.size("off"), "Disk that must stay free."),
    Setting("free-memory", "free_memory_bytes", texts.size("off"), "Memory that must stay free."),
    _of_peer("name", "name", texts.NAME, "What others see."),
    _of_peer("memory", "memory_bytes", texts.size("default"), "Device memory to lend."),
    _of_peer("ram", "ram_bytes", texts.size("off"),
             "Memory of the machine for all of this peer's processes."),
    _of_peer("advertise", "advertise", texts.ADVERTISED,
             "Address that others dial, where a router forwards a port."),
    _of_peer("cache", "cache_bytes", texts.size("off"), "Disk for blobs that no work needs."),
    _of_peer("snapshots", "snapshot_bytes", texts.size("off"),
             "Disk for other peers' snapshots."),
    _of_peer("grace", "grace_s", texts.DURATION, "How long to hand over when told to stop."),
    _of_peer("device", "device", texts.matching(r"auto|cpu|cuda(:\d{1,2})?", "auto|cpu|cuda:N"),
             "What to compute on.", restart=True),
    _of_peer("executor", "executor", texts.one_of(*NAMES), "Framework to compute with.",
             restart=True),
    _of_peer("threads", "threads", texts.whole(0, 1_024, "default"), "CPU threads.",
             restart=True),
    _of_peer("priority", "priority", PRIORITY,
             "Whether what computes gives way to other programs.", restart=True),
    _of_peer("host", "listen_host", texts.matching(r"[0-9a-z.:\-_]+", "HOST"),
             "Address to listen on.", restart=True),
    _of_peer("port", "listen_port", texts.whole(0, 65_535, "free"), "Port to listen on.",
             restart=True),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def find_setting(name: str) -> Setting:
    """One setting.

    Raises:
        HomespunError: NOT_FOUND with the nearest name.
    """
    if (found := _BY_NAME.get(name.strip().lower())) is not None:
        return found
    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise HomespunError(
        Code.NOT_FOUND, f"There is no setting {name[:40]!r}. {hint}`peer get` lists all.",
        setting=name[:40])


def with_changes(settings: PeerSettings, changes: Sequence[str]) -> PeerSettings:
    """Settings after changes such as `schedule=22:00-07:00 daily`, one after the other.

    Raises:
        HomespunError: NOT_FOUND or INVALID_ARGUMENT with the first one that cannot be made.
    """
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"{change[:60]!r} sets nothing: NAME=VALUE expected.")
        settings = find_setting(name).changed(settings, text)
    return settings
