from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun.errors import Code, HomespunError
from homespun.units import (
    format_duration,
    format_size,
    format_time,
    parse_duration_ms,
    parse_size,
)


@pytest.mark.parametrize(("text", "size"), [
    ("6GiB", 6 * 2**30), ("6gib", 6 * 2**30), (" 512 MiB ", 512 * 2**20), ("1.5GB", 1_500_000_000),
    ("10kB", 10_000), ("0B", 0), ("2TiB", 2 * 2**40),
])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [
    "", "6", "GiB", "-1GiB", "6 GiBs", "1e3MiB", "6GiB extra", "1.GiB", "nan GiB", "9" * 40 + "B",
    "6g", "٦GiB",
])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(HomespunError) as caught:
        assert parse_size(text) < 0
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(("text", "milliseconds"), [
    ("7d", 604_800_000), ("30m", 1_800_000), ("1h30m", 5_400_000), ("250ms", 250),
    ("1.5h", 5_400_000), ("2w", 1_209_600_000), ("1h 30m", 5_400_000), ("0s", 0),
])
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7days", "7d!", "1h30", "m7"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(HomespunError) as caught:
        parse_duration_ms(text)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(("size", "text"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1536, "1.50 KiB"),
    (20 * 2**20, "20.0 MiB"), (150 * 2**30, "150 GiB"), (5000 * 2**40, "5000 TiB"),
])
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0ms"), (0.85, "850ms"), (12.5, "12.5s"), (59.99, "1m 00s"), (200, "3m 20s"),
    (7500, "2h 05m"), (4 * 86_400 + 3 * 3600, "4d 03h"), (-2, "-2.0s"),
])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_times_are_utc() -> None:
    assert format_time(0) == "-"
    assert format_time(1_763_629_200_000) == "2025-11-20T09:00:00Z"


@given(st.integers(0, 2**50))
def test_a_printed_size_reads_back_within_a_percent(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.01)
