"""`peer set|get`, and `peer join --set`: one setting at a time, validated, with its origin."""

import json
import os
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner

from homespun.errors import Code, HomespunError
from peer.cli import cli as peer
from peer.live_settings import LiveSettings
from peer.owner.core.limits import IdleRule, OwnerLimits
from peer.setting_list import SETTINGS, find_setting, with_changes
from peer.settings import PeerDirectory, PeerSettings

ATTIC = PeerSettings(name="attic")


@pytest.fixture
def place(tmp_path):
    place = PeerDirectory(tmp_path)
    place.save_settings(ATTIC)
    return place


def say(place, *arguments, exit_code=0):
    result = CliRunner().invoke(peer, [*arguments, "--dir", str(place.root)])
    assert result.exit_code == exit_code, result.output
    return result.stdout if exit_code == 0 else result.stderr


@pytest.mark.parametrize(("name", "text", "value", "shown"), [
    ("schedule", "22:00-7:00", "22:00-07:00 daily", "22:00-07:00 daily"),
    ("notice", "1h30m", 5_400.0, "1h30m"),
    ("only-when-idle", "YES", IdleRule.YES, "yes"),
    ("on-battery", "true", True, "yes"),
    ("temperature", "75C", 75.0, "75C"),
    ("temperature", "75 °C", 75.0, "75C"),
    ("temperature", "off", 0, "off"),
    ("power", "220.5", 220.5, "220.5W"),
    ("others-percent", "10%", 10.0, "10%"),
    ("programs", "Blender, steam.exe", ("Blender", "steam.exe"), "Blender, steam.exe"),
    ("programs", "none", (), "none"),
    ("upload", "25Mbit/s", 3_125_000, "25Mbit/s"),
    ("upload", "3MiB/s", 3 << 20, "3145728B/s"),
    ("download", "off", 0, "off"),
    ("monthly-quota", "100GB", 100 * 10**9, "100000000000B"),
    ("monthly-quota", "1.5TiB", 3 << 39, "1.50TiB"),
    ("reset-day", "15", 15, "15"),
    ("memory", "6GiB", 6 << 30, "6.00GiB"),
    ("memory", "default", 0, "default"),
    ("threads", "default", 0, "default"),
    ("advertise", "auto", "", "auto"),
    ("grace", "30s", 30.0, "30.0s"),
])
def test_each_kind_of_value_is_read_and_shown(name, text, value, shown):
    setting = find_setting(name)
    after = setting.changed(ATTIC, text)
    assert setting.value_in(after) == value
    assert setting.text_in(after) == shown
    assert setting.changed(ATTIC, shown) == after, "what is shown can be said"


@pytest.mark.parametrize(("name", "text"), [
    ("schedule", "nights"), ("notice", "10"), ("only-when-idle", "maybe"), ("on-battery", "2"),
    ("temperature", "75F"), ("temperature", "500"), ("power", "-3"), ("upload", "25Mbit"),
    ("upload", "fast/s"), ("monthly-quota", "many"), ("reset-day", "31"), ("reset-day", "1.5"),
    ("name", ""), ("name", "x" * 65), ("name", "a\nb"), ("executor", "cobol"), ("threads", "0.5"),
    ("port", "70000"), ("device", "tpu"), ("host", "a b"), ("advertise", "a b:1"),
    ("idle-after", "0s")])
def test_what_is_no_value_is_refused_by_name(name, text):
    with pytest.raises(HomespunError) as caught:
        find_setting(name).changed(ATTIC, text)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith(f"{name}: ")


def test_every_setting_shows_a_default_that_it_reads():
    for setting in SETTINGS:
        assert setting.is_default(ATTIC)
        assert setting.changed(ATTIC, setting.text_in(ATTIC)) == ATTIC, setting.name
    limits = {setting.field for setting in SETTINGS if setting.is_limit}
    assert limits == set(OwnerLimits.__dataclass_fields__)
    others = {setting.field for setting in SETTINGS if not setting.is_limit}
    assert others == set(PeerSettings.__dataclass_fields__) - {"limits"}


def test_one_setting_changes_and_the_others_stay(place):
    said = say(place, "set", "schedule", "22:00-07:00", "daily")
    assert said == "schedule is 22:00-07:00 daily; it was always.\n"
    say(place, "set", "upload", "10Mbit/s")
    settings = place.load_settings()
    assert settings == replace(ATTIC, limits=replace(
        ATTIC.limits, schedule="22:00-07:00 daily", upload_bytes_per_s=1_250_000))
    assert say(place, "get", "upload") == "10Mbit/s\n"
    rows = {row["name"]: row for row in json.loads(say(place, "get", "--json"))["settings"]}
    assert (rows["upload"]["origin"], rows["download"]["origin"]) == ("settings.json", "default")
    assert "22:00-07:00 daily" in say(place, "get")


def test_a_flag_of_the_running_daemon_goes_before_the_file(place):
    place.status.write_text(json.dumps({
        "pid": os.getpid(), "updated_unix_ms": time.time_ns() // 1_000_000,
        "overrides": {"memory_bytes": 4 << 30}}))
    row, = json.loads(say(place, "get", "memory", "--json"))["settings"]
    assert (row["value"], row["origin"]) == ("4.00GiB", "flag of peer run")
    result = CliRunner().invoke(peer, ["set", "memory", "2GiB", "--dir", str(place.root)])
    assert "from its next start" in result.stderr
    result = CliRunner().invoke(peer, ["set", "threads", "2", "--dir", str(place.root)])
    assert "stop it and start it again" in result.stderr


def test_a_wrong_name_is_answered_with_the_nearest(place):
    assert "Did you mean schedule?" in say(place, "set", "shedule", "always", exit_code=3)
    say(place, "set", "upload", "fast", exit_code=2)
    assert place.load_settings() == ATTIC


def test_settings_on_disk_that_make_no_sense_are_refused(place):
    text = place.settings.read_text().replace('"reset_day": 1', '"reset_day": 31')
    place.settings.write_text(text)
    assert "reset_day is 31" in say(place, "get", exit_code=78)


def test_changes_in_a_row():
    changed = with_changes(ATTIC, ["on-battery=yes", "schedule=10:00-12:00 Sat"])
    assert changed.limits.on_battery
    assert changed.limits.schedule == "10:00-12:00 Sat"
    with pytest.raises(HomespunError, match="NAME=VALUE"):
        with_changes(ATTIC, ["on-battery"])


def test_live_settings_follow_the_file_below_the_flags(place):
    changes = []
    live = LiveSettings(
        place, replace(ATTIC, threads=3), {"threads": 3},
        lambda before, after: changes.append((before.name, after.name)))
    assert not live.look()
    place.save_settings(replace(ATTIC, name="cellar", threads=7))
    assert live.look()
    assert (live.current.name, live.current.threads) == ("cellar", 3)
    assert not live.look()
    place.settings.write_bytes(b"[]")
    assert not live.look()
    assert live.current.name == "cellar"
    assert changes == [("attic", "cellar")]
