"""What `--json` of each command prints, as types: `docs/schemas` is made from them.

Fields are only ever added within one `schema_version`. A test holds what commands really print
against these; nothing else imports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Document(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One object, which names its schema."""

    schema: str
    schema_version: int


class Part(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A part of one."""


class Reason(Part):
    """Why the peer may not do more; `until_unix_ms` is 0 where no end is known."""

    kind: str
    text: str
    change: str
    until_unix_ms: int


class Lease(Part):
    """A segment that is held."""

    job_id: str
    segment: int
    phase: str
    steps_done: int
    waiting_for: str
    waiting_from: str
    waiting_s: float
    problem: str = ""


class Standby(Part):
    """A duty to be ready."""

    job_id: str
    segment: int
    level: str
    asked_level: str
    problem: str


class Snapshots(Part):
    """Snapshots that are kept."""

    count: int
    bytes: int


class Reading(Part):
    """A value that was read of the machine, or why there is none."""

    value: bool | int | float | None
    source: str
    problem: str


class NoWork(Part):
    """Why the broker gives the peer nothing; `jobs` it is about, 0 for none in particular."""

    rule: str
    jobs: int
    text: str
    change: str


class Traffic(Part):
    """Bytes since the start of the daemon, and those of the month beyond the local network."""

    sent_bytes: int
    received_bytes: int
    far_bytes: int
    month_bytes: int


class Connection(Part):
    """Whether the broker is there, since when, and if not why and when it is tried again."""

    is_up: bool
    since_unix_ms: int
    reason: str
    retry_unix_ms: int


class Ending(Part):
    """Why the last daemon ended; `code` is empty where it was told to, or could not say."""

    code: str
    text: str
    remedy: str
    at_unix_ms: int


class Memory(Part):
    """What the processes that compute take, theirs alone; of the GPU, what all programs use.

    `device_bytes` is null for a processor, and where the driver does not say.
    """

    processes: int
    process_bytes: int
    device_bytes: int | None


class PeerStatus(Document):
    """`peer status --json`. Fields with a default are there once a daemon has run."""

    name: str
    running: bool
    availability: str
    duty: float
    reasons: list[Reason]
    closes_unix_ms: int
    without_effect: list[str]
    leases: list[Lease]
    standbys: list[Standby]
    snapshots: Snapshots
    readings: dict[str, Reading]
    memory: Memory
    pid: int = 0
    updated_unix_ms: int = 0
    device: str = ""
    gpu: str = ""
    executor: str = ""
    peer_id: str = ""
    broker: str = ""
    connected: bool = False
    connection: Connection | None = None
    ended: Ending | None = None
    tensor_address: str = ""
    reached_by: list[str] = []
    no_work: list[NoWork] = []
    overrides: dict[str, str | int | float] = {}
    wish_id: str = ""
    traffic: Traffic | None = None


class PeerAvailability(Document):
    """`peer pause|resume|finish|leave --json`."""

    name: str
    is_running: bool
    held: list[str]
    ended: list[int]
    seconds: float
    memory_before: Memory
    memory_now: Memory
    availability: str
    until_unix_ms: int


class SettingRow(Part):
    """One setting, as it is written."""

    name: str
    value: str
    origin: str
    form: str
    meaning: str
    needs_restart: bool


class PeerSettings(Document):
    """`peer get --json`."""

    settings: list[SettingRow]


class PeerSetting(Document):
    """`peer set --json`."""

    name: str
    value: str
    origin: str
    form: str
    meaning: str
    needs_restart: bool
    before: str


class Finding(Part):
    """What one check found; `verdict` is ok, warn or fail."""

    id: str
    verdict: str
    actual: str
    required: str
    remedy: str


class PeerCheck(Document):
    """`peer check --json`."""

    passed: bool
    findings: list[Finding]


class PeerNetcheck(Document):
    """`peer netcheck --json`."""

    passed: bool
    findings: list[Finding]


class Sums(Part):
    """What was given, added up."""

    tasks: int
    flops: float
    device_s: float
    energy_j: float
    sent_bytes: int
    received_bytes: int
    far_bytes: int


class Entry(Sums):
    """What was given to one job on one day; `job_id` is empty for what was for none."""

    day: str
    job_id: str


class PeerEarnings(Document):
    """`peer earnings --json`."""

    since: str
    total: Sums
    entries: list[Entry]


class PeerBundle(Document):
    """`peer bundle --json`."""

    path: str
    bytes: int
    files: list[str]


class PeerService(Document):
    """`peer service status --json`."""

    path: str
    installed: bool
    running: bool
    manager: str
    said: str


class PeerRates(Document):
    """`peer rates --json`: the report of the hardware; rates as in `session.proto`."""

    device: str
    device_name: str
    memory_bytes: int
    rates: dict[str, Any]
    platform: str
    threads: int
    executor: str
    measured_unix_s: int
    refined_unix_s: int


DOCUMENTS: Mapping[str, type[Document]] = {
    "peer_status": PeerStatus, "peer_availability": PeerAvailability,
    "peer_settings": PeerSettings, "peer_setting": PeerSetting, "peer_check": PeerCheck,
    "peer_netcheck": PeerNetcheck, "peer_earnings": PeerEarnings, "peer_bundle": PeerBundle,
    "peer_service": PeerService, "peer_rates": PeerRates}
"""By the name that each says in `schema`."""
