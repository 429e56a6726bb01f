"""What an owner's limits allow: reasons for every state, no flapping, ends that are announced."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.errors import HomespunError
from peer.core.events import Availability
from peer.owner.core.allowance import NOTHING, SETTLE_S, URGENT_SHARE, decide
from peer.owner.core.limits import NO_LIMITS, IdleRule, OwnerLimits
from peer.owner.core.readings import Reading, Readings, unread
from peer.owner.core.reasons import CATALOG, ReasonKind
from peer.owner.core.wish import NO_WISH, Wish

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=BERLIN).timestamp()
PAUSED, OPEN = Availability.PAUSED, Availability.OPEN


def machine(now_s=0.0, unix_s=NOON, **readings):
    read = {name: Reading(value, "test") for name, value in readings.items()
            if name not in ("is_gpu", "moved_bytes")}
    rest = {name: readings[name] for name in ("is_gpu", "moved_bytes") if name in readings}
    return Readings(now_s=now_s, unix_s=unix_s, zone=BERLIN, **read, **rest)


def allowed(limits=NO_LIMITS, wish=NO_WISH, before=NOTHING, **readings):
    return decide(limits, wish, machine(**readings), before)[0]


def kinds(allowance):
    return [each.kind for each in allowance.reasons]


def test_an_undisturbed_machine_is_open_without_a_reason():
    allowance = allowed(
        OwnerLimits(), is_on_battery=False, is_metered=False, free_disk_bytes=1 << 40)
    assert (allowance.availability, allowance.reasons, allowance.duty) == (OPEN, (), 1.0)


@pytest.mark.parametrize(("limits", "readings", "kind"), [
    ({"on_battery": False}, {"is_on_battery": True}, "on_battery"),
    ({"on_metered": False}, {"is_metered": True}, "metered"),
    ({"only_when_idle": IdleRule.YES}, {"idle_s": 179.0}, "in_use"),
    ({"only_when_idle": IdleRule.AUTO}, {"idle_s": 179.0, "is_gpu": True}, "in_use"),
    ({"only_when_idle": IdleRule.YES}, {}, "use_unknown"),
    ({"programs": ("Blender.exe",)}, {"programs": frozenset({"blender"})}, "program_runs"),
    ({"others_percent": 20.0}, {"others_share": 0.21}, "others_use_device"),
    ({"temperature_c": 80.0}, {"temperature_c": 88.0}, "too_hot"),
    ({"monthly_bytes": 10}, {"moved_bytes": 10}, "quota_used"),
    ({"free_disk_bytes": 10}, {"free_disk_bytes": 9}, "disk_full"),
    ({"free_memory_bytes": 10}, {"free_memory_bytes": 9}, "memory_short"),
    ({"schedule": "13:00-14:00 daily"}, {}, "outside_hours"),
    ({"schedule": "11:00-12:05 daily"}, {}, "hours_end"),
])
def test_each_limit_stops_the_work_with_its_own_reason(limits, readings, kind):
    allowance = allowed(replace(NO_LIMITS, **limits), **readings)
    assert allowance.availability is PAUSED
    assert kinds(allowance) == [kind]
    reason, = allowance.reasons
    assert "{" not in reason.text
    assert reason.change
    assert allowance.deadline_s is not None


@pytest.mark.parametrize(("limits", "readings"), [
    ({"only_when_idle": IdleRule.AUTO}, {"idle_s": 0.0}),  # of a processor
    ({"only_when_idle": IdleRule.AUTO}, {"is_gpu": True}),  # nothing can be read
    ({"only_when_idle": IdleRule.YES}, {"idle_s": 180.0}),
    ({"others_percent": 20.0}, {"others_share": 0.2}),
    ({"temperature_c": 80.0}, {"temperature_c": 80.0}),
    ({"on_battery": False}, {}),
])
def test_what_does_not_stand_against_it(limits, readings):
    assert allowed(replace(NO_LIMITS, **limits), **readings).availability is OPEN


def test_a_limit_that_cannot_be_kept_is_named_with_why():
    limits = replace(NO_LIMITS, only_when_idle=IdleRule.AUTO, temperature_c=80.0)
    readings = replace(
        machine(is_gpu=True), idle_s=unread("busctl is not on this system"),
        temperature_c=unread("there is no NVIDIA driver"))
    assert decide(limits, NO_WISH, readings)[0].without_effect == (
        "only-when-idle: busctl is not on this system", "temperature: there is no NVIDIA driver")


def test_limits_of_a_gpu_are_named_for_a_processor_only_if_somebody_set_them():
    def named(**limits):
        return [each.partition(":")[0] for each in allowed(
            replace(OwnerLimits(), on_battery=True, on_metered=True, free_disk_bytes=0, **limits)
        ).without_effect]

    assert named() == []
    assert named(temperature_c=70.0, power_w=200.0, others_percent=5.0) == [
        "temperature", "power", "others-percent"]


def test_the_owners_word_and_the_limits_are_both_named():
    wish = Wish(id="a", availability=PAUSED, until_unix_ms=round((NOON + 6_000) * 1000))
    allowance = allowed(replace(NO_LIMITS, on_battery=False), wish, is_on_battery=True)
    assert kinds(allowance) == ["owner_paused", "on_battery"]
    assert allowance.reasons[0].text == "its owner has paused it, until 13:40"
    assert allowance.reasons[0].until_unix_ms == wish.until_unix_ms


def test_a_pause_ends_at_its_end_and_not_before():
    wish = Wish(id="a", availability=PAUSED, until_unix_ms=round(NOON * 1000))
    assert allowed(wish=wish, unix_s=NOON - 0.01).availability is PAUSED
    assert allowed(wish=wish, unix_s=NOON).availability is OPEN


@pytest.mark.parametrize(("wished", "becomes"), [
    (OPEN, PAUSED), (Availability.FINISHING, PAUSED), (PAUSED, PAUSED),
    (Availability.LEAVING, Availability.LEAVING)])
def test_the_stricter_one_holds(wished, becomes):
    wish = Wish(id="a", availability=wished)
    assert allowed(wish=wish).availability is wished
    limits = replace(NO_LIMITS, on_battery=False)
    assert allowed(limits, wish, is_on_battery=True).availability is becomes


def test_who_needs_the_machine_now_waits_less():
    limits = replace(NO_LIMITS, on_battery=False, only_when_idle=IdleRule.YES)
    assert allowed(limits, is_on_battery=True, idle_s=999.0).deadline_s == limits.handover_s
    assert allowed(limits, idle_s=0.0).deadline_s == limits.handover_s * URGENT_SHARE


def test_a_deadline_is_never_put_off():
    limits = replace(NO_LIMITS, on_battery=False, only_when_idle=IdleRule.YES)
    first, memory = decide(limits, NO_WISH, machine(is_on_battery=True, idle_s=999.0))
    second, memory = decide(limits, NO_WISH, machine(5.0, idle_s=0.0), memory)
    third, _ = decide(limits, NO_WISH, machine(6.0, is_on_battery=True, idle_s=999.0), memory)
    assert first.deadline_s == 60.0
    assert second.deadline_s == third.deadline_s == 5.0 + 15.0


def test_the_end_of_the_hours_is_told_ahead_and_is_the_deadline():
    limits = replace(NO_LIMITS, schedule="22:00-07:00 daily", notice_s=600.0)
    # The night in which the clock is put forward: seven comes an hour sooner.
    ends = datetime(2026, 3, 29, 7, 0, tzinfo=BERLIN).timestamp()
    opened = datetime(2026, 3, 28, 22, 0, tzinfo=BERLIN).timestamp()
    assert ends - opened == 8 * 3_600
    for before_s, availability in [(601.0, OPEN), (600.0, PAUSED), (1.0, PAUSED)]:
        allowance = allowed(limits, now_s=50.0, unix_s=ends - before_s)
        assert allowance.availability is availability
        assert allowance.closes_unix_ms == ends * 1000
    assert allowance.deadline_s == pytest.approx(51.0)
    assert allowance.reasons[0].text == "its hours end at 07:00, so that it hands over now"
    outside = allowed(limits, unix_s=ends)
    assert kinds(outside) == ["outside_hours"]
    assert outside.reasons[0].until_unix_ms == (opened + 86_400 - 3_600) * 1000


def test_warm_devices_rest_and_say_so():
    limits = replace(NO_LIMITS, temperature_c=80.0, power_w=200.0)
    allowance = allowed(limits, temperature_c=82.0, power_w=150.0)
    assert (allowance.availability, allowance.duty, kinds(allowance)) == (OPEN, 0.75, ["warm"])
    assert allowance.reasons[0].text == (
        "the device is at 82 °C, limit 80 °C, and works 75% of the time")
    both = allowed(limits, temperature_c=82.0, power_w=250.0)
    assert kinds(both) == ["warm", "power"]


def test_every_reason_has_a_remedy_and_is_in_the_owners_page():
    page = (Path(__file__).parents[4] / "docs" / "owner.md").read_text(encoding="utf-8")
    assert set(CATALOG) == set(ReasonKind)
    assert all(info.change for info in CATALOG.values())
    assert not [kind for kind in ReasonKind if f"`{kind}`" not in page]


@pytest.mark.parametrize("wrong", [
    {"idle_s": float("nan")}, {"reset_day": 29}, {"temperature_c": -1.0}, {"schedule": "nights"},
    {"programs": ("",)}, {"upload_bytes_per_s": -1}])
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(HomespunError):
        replace(OwnerLimits(), **wrong).check()


# --- over any course of events -------------------------------------------------------------------

limits_strategy = st.builds(
    OwnerLimits,
    schedule=st.sampled_from(["always", "22:00-07:00 daily", "11:00-12:30 Mon-Fri"]),
    only_when_idle=st.sampled_from(IdleRule), on_battery=st.booleans(), on_metered=st.booleans(),
    temperature_c=st.sampled_from([0.0, 80.0]), power_w=st.sampled_from([0.0, 200.0]),
    others_percent=st.sampled_from([0.0, 20.0]), programs=st.sampled_from([(), ("game",)]),
    monthly_bytes=st.sampled_from([0, 100]), free_disk_bytes=st.sampled_from([0, 10]),
    free_memory_bytes=st.sampled_from([0, 10]))


def maybe(values):
    return st.one_of(st.just(unread("because")), values.map(lambda value: Reading(value, "test")))


readings_strategy = st.fixed_dictionaries({
    "is_gpu": st.booleans(), "idle_s": maybe(st.floats(0, 400)),
    "is_on_battery": maybe(st.booleans()), "is_metered": maybe(st.booleans()),
    "temperature_c": maybe(st.floats(30, 110)), "power_w": maybe(st.floats(10, 500)),
    "others_share": maybe(st.floats(0, 1)), "moved_bytes": st.integers(0, 200),
    "programs": maybe(st.sampled_from([frozenset(), frozenset({"game"})])),
    "free_disk_bytes": maybe(st.integers(0, 20)), "free_memory_bytes": maybe(st.integers(0, 20))})
wish_strategy = st.one_of(st.just(NO_WISH), st.builds(
    Wish, id=st.sampled_from("ab"), availability=st.sampled_from(Availability),
    deadline_ms=st.sampled_from([0, 5_000]),
    until_unix_ms=st.sampled_from([0, round((NOON + 120) * 1000)])))
course = st.lists(
    st.tuples(st.floats(0.25, 40), readings_strategy, wish_strategy), min_size=1, max_size=25)


def forbids(limits, readings):
    """What must keep a machine closed, said anew and more simply."""
    idle = readings.idle_s.value
    wants_idle = limits.only_when_idle is IdleRule.YES or (
        limits.only_when_idle is IdleRule.AUTO and readings.is_gpu and idle is not None)
    return (
        (wants_idle and (idle is None or idle < limits.idle_s))
        or (readings.is_on_battery.value and not limits.on_battery)
        or (readings.is_metered.value and not limits.on_metered)
        or (readings.temperature_c.value or 0) >= (limits.temperature_c or 1e9) + 8
        or (readings.others_share.value or 0) * 100 > (limits.others_percent or 1e9)
        or (bool(limits.programs) and "game" in (readings.programs.value or ()))
        or (0 < limits.monthly_bytes <= readings.moved_bytes)
        or (readings.free_disk_bytes.value is not None
            and readings.free_disk_bytes.value < limits.free_disk_bytes)
        or (readings.free_memory_bytes.value is not None
            and readings.free_memory_bytes.value < limits.free_memory_bytes))


@settings(max_examples=200, deadline=None, print_blob=True)
@given(limits_strategy, course)
def test_over_any_course(limits, course):
    memory, now_s = NOTHING, 0.0
    opened_after_sensed_s, last_deadline_s, was_emptied = None, None, False
    for wait_s, read, wish in course:
        now_s += wait_s
        readings = Readings(now_s=now_s, unix_s=NOON + now_s, zone=BERLIN, **read)
        allowance, memory = decide(limits, wish, readings, memory)
        found = kinds(allowance)
        if forbids(limits, readings):
            assert allowance.availability in (PAUSED, Availability.LEAVING)
        if allowance.availability is not OPEN or allowance.duty < 1:
            assert found
        if allowance.availability is OPEN:
            assert not set(found) - {ReasonKind.WARM, ReasonKind.POWER}
            if opened_after_sensed_s is not None:
                assert now_s - opened_after_sensed_s >= SETTLE_S, "it flaps"
        if any(CATALOG[kind].is_sensed for kind in found):
            opened_after_sensed_s = now_s
        is_emptied = allowance.availability in (PAUSED, Availability.LEAVING)
        if is_emptied and was_emptied and last_deadline_s is not None:
            assert allowance.deadline_s <= last_deadline_s
        last_deadline_s, was_emptied = allowance.deadline_s, is_emptied
        assert 0 < allowance.duty <= 1


