"""Hours on the wall: what is read, which moments are inside, and which one ends them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.errors import Code, HomespunError
from peer.owner.core.months import month_key, next_reset_s
from peer.owner.core.schedule import (
    ALWAYS,
    Schedule,
    Window,
    is_open_at,
    next_change,
    parse_schedule,
    schedule_text,
)

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"),
         ZoneInfo("America/Sao_Paulo"), ZoneInfo("Asia/Kathmandu")]
MINUTE_S = 60


def at(*fields, zone=BERLIN, fold=0):
    return datetime(*fields, tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(("text", "normal"), [
    ("always", "always"), ("", "always"), ("22:00-07:00", "22:00-07:00 daily"),
    ("22:00-07:00 daily", "22:00-07:00 daily"), ("9:00-17:00 mon-fri", "09:00-17:00 Mon-Fri"),
    ("00:00-24:00 Sat Sun; 18:00-24:00 Mon", "00:00-24:00 Sat Sun, 18:00-24:00 Mon"),
    ("01:00-02:00 Sun-Tue", "01:00-02:00 Mon Tue Sun"),
    ("01:00-02:00 Monday Wednesday", "01:00-02:00 Mon Wed"),
])
def test_what_is_written_is_read_and_shown(text, normal):
    assert schedule_text(parse_schedule(text)) == normal
    assert parse_schedule(normal) == parse_schedule(text)


@pytest.mark.parametrize("text", [
    "22:00", "25:00-26:00", "10:00-10:00", "24:00-01:00", "10:60-11:00", "10:00-11:00 Mo-Fr",
    "10:00-11:00 someday", "nights", "10:00-11:00,,x", ",".join(["10:00-11:00"] * 51)])
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(HomespunError) as caught:
        parse_schedule(text)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_window_over_midnight_belongs_to_the_day_it_begins_on():
    friday = parse_schedule("22:00-07:00 Fri")
    assert is_open_at(friday, at(2026, 11, 27, 22, 0), BERLIN)
    assert is_open_at(friday, at(2026, 11, 28, 6, 59), BERLIN)
    assert not is_open_at(friday, at(2026, 11, 28, 7, 0), BERLIN)
    assert not is_open_at(friday, at(2026, 11, 28, 22, 0), BERLIN)
    assert next_change(friday, at(2026, 11, 27, 23, 0), BERLIN) == at(2026, 11, 28, 7, 0)


def test_a_night_is_an_hour_shorter_in_spring_and_longer_in_autumn():
    night = parse_schedule("22:00-07:00 daily")
    for evening, hours in [((2026, 3, 28), 8), ((2026, 10, 24), 10), ((2026, 11, 27), 9)]:
        opens = at(*evening, 22, 0)
        assert next_change(night, opens, BERLIN) == opens + hours * 3_600


def test_hours_that_the_clock_leaves_out_or_shows_twice():
    small = parse_schedule("02:00-03:00 daily")
    assert next_change(small, at(2026, 3, 28, 12, 0), BERLIN) == at(2026, 3, 30, 2, 0), (
        "there is no two o'clock on the 29th")
    assert next_change(small, at(2026, 10, 25, 1, 0), BERLIN) == at(2026, 10, 25, 2, 0)
    assert next_change(small, at(2026, 10, 25, 2, 0), BERLIN) == at(2026, 10, 25, 2, 0) + 7_200
    across = parse_schedule("01:30-02:30 daily")
    assert next_change(across, at(2026, 3, 29, 1, 45), BERLIN) == at(2026, 3, 29, 3, 0), (
        "half past two is jumped over")


def test_what_is_always_open_never_changes():
    assert is_open_at(ALWAYS, 0.0, UTC)
    assert next_change(ALWAYS, 0.0, UTC) is None
    whole_week = parse_schedule("00:00-24:00 daily")
    assert next_change(whole_week, at(2026, 3, 28, 12, 0), BERLIN) is None


windows = st.builds(
    lambda days, start, length: Window(frozenset(days), start, start + length),
    st.sets(st.integers(0, 6), min_size=1), st.integers(0, 1_439), st.integers(1, 1_439))


@settings(max_examples=60, deadline=None, print_blob=True)
@given(
    st.lists(windows, min_size=1, max_size=4), st.sampled_from(ZONES),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)))
def test_the_next_change_is_the_first_moment_that_differs(found, zone, start):
    schedule = Schedule(tuple(found))
    now_s = float(int(start.replace(tzinfo=UTC).timestamp()))
    change_s = next_change(schedule, now_s, zone)
    before = is_open_at(schedule, now_s, zone)
    end_s = now_s + 2 * 86_400 if change_s is None else change_s
    if change_s is not None:
        assert change_s > now_s
        assert is_open_at(schedule, change_s, zone) is not before
        assert is_open_at(schedule, change_s - 1, zone) is before
    looked_at = now_s
    while looked_at < min(end_s, now_s + 4 * 86_400):
        assert is_open_at(schedule, looked_at, zone) is before
        looked_at += 7 * MINUTE_S


@settings(max_examples=60, deadline=None, print_blob=True)
@given(st.lists(windows, max_size=4))
def test_text_and_back(found):
    plain = tuple(
        window for window in found
        if window.end_minute - 1_440 != window.start_minute)
    schedule = Schedule(plain)
    assert parse_schedule(schedule_text(schedule)) == schedule


@settings(max_examples=100, deadline=None, print_blob=True)
@given(st.sampled_from(ZONES), st.integers(1, 28),
       st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)))
def test_a_quota_month_holds_its_moments_and_ends_on_the_reset_day(zone, reset_day, moment):
    now_s = moment.replace(tzinfo=UTC).timestamp()
    end_s = next_reset_s(now_s, reset_day, zone)
    assert 0 < end_s - now_s < timedelta(days=32).total_seconds()
    assert datetime.fromtimestamp(end_s, zone).day == reset_day
    assert month_key(end_s - 1, reset_day, zone) == month_key(now_s, reset_day, zone)
    assert month_key(end_s, reset_day, zone) != month_key(now_s, reset_day, zone)
