"""Sizes, durations and times as people write them: `6GiB`, `30m`, `2026-11-20T09:30:00Z`.

A unit is always written: a bare number is refused, because guessing between bytes and GiB costs
somebody a day. `GB` is 10**9 bytes, `GiB` is 2**30; both are accepted and mean what they say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from homespun.errors import Code, HomespunError

_SIZES: Mapping[str, int] = {
    "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}
_DURATIONS_MS: Mapping[str, int] = {
    "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000,
}
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([a-z]{1,3})")
_SPAN = re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]{1,6})?\s*[a-z]{1,2}\s*)+")


def parse_size(text: str) -> int:
    """Bytes of a size such as `6GiB`, `512 MiB` or `1.5GB`; letter case does not matter.

    Raises:
        HomespunError: INVALID_ARGUMENT when it is no number with a unit.
    """
    match = _QUANTITY.fullmatch(text.strip().lower())
    if match is None or match[2] not in _SIZES:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"{text!r} is not a size. Write a number with a unit: 6GiB, 512MiB, 1.5GB.",
            value=text,
        )
    return round(float(match[1]) * _SIZES[match[2]])


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a duration such as `7d`, `30m`, `1h30m` or `250ms`.

    Raises:
        HomespunError: INVALID_ARGUMENT when it is no sequence of numbers with units.
    """
    lowered = text.strip().lower()
    parts = _QUANTITY.findall(lowered) if _SPAN.fullmatch(lowered) else []
    if not parts or any(unit not in _DURATIONS_MS for _, unit in parts):
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"{text!r} is not a duration. Write a number with a unit: 30m, 7d, 1h30m, 250ms.",
            value=text,
        )
    return round(sum(float(number) * _DURATIONS_MS[unit] for number, unit in parts))


def format_size(size_bytes: float) -> str:
    """A size for people, in binary units with three significant digits: `1.50 GiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{_three_digits(value)} {unit}"
        value /= 1024
    return f"{_three_digits(value)} TiB"


def format_flops(flops_per_s: float) -> str:
    """A device's speed with a unit."""
    for unit, size in (("TFLOP/s", 1e12), ("GFLOP/s", 1e9)):
        if flops_per_s >= size:
            return f"{flops_per_s / size:.3g} {unit}"
    return f"{flops_per_s / 1e6:.3g} MFLOP/s"


def format_duration(seconds: float) -> str:
    """A duration for people: `850ms`, `12.5s`, `3m 20s`, `2h 05m`, `4d 03h`."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if 0 < seconds < 0.0005:
        return "<1ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02d}h"


def format_time(unix_ms: int) -> str:
    """A point in time, RFC 3339 in UTC with seconds; `-` for 0 (never)."""
    if unix_ms == 0:
        return "-"
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _three_digits(value: float) -> str:
    if abs(value) < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"
